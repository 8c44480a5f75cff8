import { runTests, type TestResult } from "../bun-test.ts";
import { cleanup } from "../cleanup.ts";
import { setting } from "../environment.ts";
import { lockOrRefuse } from "../lock.ts";
import { refuse, say } from "../messages.ts";
import { ensureServerPrograms, type ServerPackage } from "../missing-programs.ts";
import { startPrivatePostgres } from "../postgres/private.ts";
import { findPostgres } from "../postgres/programs.ts";
import { findRedis } from "../redis.ts";

/** The rounds of tests that depend on chance. What the caller has set wins. */
const SLOW = { PROPERTY_CASES: "20000", IDEMPOTENCY_ROUNDS: "1000", FAULT_ROUNDS: "50" };

/** The tests on a Postgres of their own. The last line is the result and nothing else. */
export async function test(args: string[]): Promise<number> {
  const { isSlow, rounds, filters } = readOptions(args);
  lockOrRefuse("test", "another ./dev test is running in this checkout");
  const given = setting("TEST_DATABASE_URL");
  const needed: ServerPackage[] = given ? ["redis-server"] : ["redis-server", "postgresql"];
  await ensureServerPrograms("test", needed);
  // With a database given, the Postgres programs serve only the tests that stop and start a server
  // of their own.
  if (given && !findPostgres())
    say("Postgres programs not found: the tests that restart a database will fail");
  const url = given ?? `${await startPrivatePostgres("test-postgres")}/postgres`;
  const programs = findPostgres();
  const slow = Object.entries(SLOW).map(([name, many]) => [name, setting(name) ?? many]);
  const env = {
    ...Object.fromEntries(isSlow ? slow : []),
    TEST_DATABASE_URL: url,
    PG_BIN_DIR: programs?.bin ?? "",
    PG_RUN_AS: programs?.user ?? "",
    REDIS_SERVER_BIN: findRedis() ?? "",
  };
  const results: TestResult[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const startedAt = performance.now();
    const result = await runTests(filters, env);
    results.push(result);
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    if (rounds > 1) say(`round ${round} of ${rounds}: ${describe(result)} in ${seconds} s`);
  }
  await cleanup();
  if (rounds > 1) console.log(tally(results));
  console.log(describe(sum(results)));
  return sum(results).failed === 0 ? 0 : 1;
}

function readOptions(args: string[]): { isSlow: boolean; rounds: number; filters: string[] } {
  const filters = [...args];
  const isSlow = filters[0] === "--slow";
  if (isSlow) filters.shift();
  if (filters[0] !== "--repeat") return { isSlow, rounds: 1, filters };
  const rounds = Number(filters[1]);
  if (!Number.isInteger(rounds) || rounds < 1)
    refuse(`--repeat wants a number of rounds, as in ./dev test --repeat 5 tests/unit.`);
  return { isSlow, rounds, filters: filters.slice(2) };
}

/** What failed how often. */
function tally(results: readonly TestResult[]): string {
  const times = new Map<string, number>();
  for (const name of results.flatMap(({ failures }) => failures)) times.set(name, (times.get(name) ?? 0) + 1);
  const rows = [...times]
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${`${count}`.padStart(6)}  ${name}`);
  const green = results.filter(({ failed }) => failed === 0).length;
  return [`${green} of ${results.length} rounds without a failure`, ...rows].join("\n");
}

function sum(results: readonly TestResult[]): TestResult {
  const total = (count: (result: TestResult) => number) => results.reduce((all, one) => all + count(one), 0);
  return {
    passed: total(({ passed }) => passed),
    failed: total(({ failed }) => failed),
    skipped: total(({ skipped }) => skipped),
    failures: results.flatMap(({ failures }) => failures),
  };
}

function describe({ passed, failed, skipped }: TestResult): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
