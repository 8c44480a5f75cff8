import { runTests, type TestResult } from "../bun-test.ts";
import { cleanup } from "../cleanup.ts";
import { setting } from "../environment.ts";
import { lockOrRefuse } from "../lock.ts";
import { say } from "../messages.ts";
import { ensureServerPrograms, type ServerPackage } from "../missing-programs.ts";
import { startPrivatePostgres } from "../postgres/private.ts";
import { findPostgres } from "../postgres/programs.ts";
import { findRedis } from "../redis.ts";

/** The rounds of what chance decides; what the caller has set wins. */
const SLOW = { PROPERTY_CASES: "20000", IDEMPOTENCY_ROUNDS: "1000", FAULT_ROUNDS: "50" };

/** The tests on a Postgres of their own. The last line is the result and nothing else. */
export async function test(args: string[]): Promise<number> {
  const isSlow = args[0] === "--slow";
  lockOrRefuse("test", "another ./dev test is running in this checkout");
  const given = setting("TEST_DATABASE_URL");
  const needed: ServerPackage[] = given ? ["redis-server"] : ["redis-server", "postgresql"];
  await ensureServerPrograms("test", needed);
  // With a database given, the Postgres programs serve only the tests that stop and start a server of their own.
  if (given && !findPostgres())
    say("Postgres programs not found: the tests that restart a database will fail");
  const url = given ?? `${await startPrivatePostgres("test-postgres")}/postgres`;
  const programs = findPostgres();
  const result = await runTests(isSlow ? args.slice(1) : args, {
    ...Object.fromEntries(
      isSlow ? Object.entries(SLOW).map(([name, rounds]) => [name, setting(name) ?? rounds]) : [],
    ),
    TEST_DATABASE_URL: url,
    PG_BIN_DIR: programs?.bin ?? "",
    PG_RUN_AS: programs?.user ?? "",
    REDIS_SERVER_BIN: findRedis() ?? "",
  });
  await cleanup();
  console.log(describe(result));
  return result.failed === 0 ? 0 : 1;
}

function describe({ passed, failed, skipped }: TestResult): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
