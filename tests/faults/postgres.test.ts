import { afterAll, expect, test } from "bun:test";
import { cleanup, eventually, migrate, startPostgres, startServer, startWorker } from "../harness.ts";
import { expectAnswers, expectNothingLost, RECOVERY_MS, tally } from "./invariants.ts";
import { createStage, distribution, HOOK_MS, rounds, seeded, thorough } from "./stage.ts";
import { type Attempt, startTraffic } from "./traffic.ts";

/**
 * Postgres loses its connections, and goes away as in a crash, under load. Ingest then says at once
 * 503 and when to try again, and goes on by itself when Postgres is back.
 */
const AWAY_MS = thorough ? 10_000 : 3_000;
const SLOWEST_MS = 5_000;
const BACK_MS = 10_000;

afterAll(cleanup, HOOK_MS);

function servedOrRefused({ kind, status, retryAfter, durationMs }: Attempt): boolean {
  const served = status === (kind === "read" ? 200 : 202);
  return (served || (status === 503 && Number(retryAfter) > 0)) && durationMs < SLOWEST_MS;
}

test.concurrent(
  "backends terminated at random cost a 503 at the most",
  async () => {
    const { random, seed, rngOf } = seeded("postgres terminated");
    const stage = await createStage();
    const [{ url }] = await Promise.all([startServer(stage.env), startWorker(stage.env)]);
    const traffic = startTraffic({ urls: [url], tenants: stage.tenants, rngOf });
    let terminated = 0;
    for (let round = 0; round < rounds(6); round += 1) {
      await Bun.sleep(random.between(50, 600));
      const backends = await stage.sql<{ pid: number }[]>`select pid from pg_stat_activity
        where datname = current_database() and application_name in ('footfall api', 'footfall worker') order by pid`;
      const victims = backends.filter(() => random.chance(0.4)).map(({ pid }) => pid);
      await stage.sql`select pg_terminate_backend(pid) from unnest(${stage.sql.array(victims)}::int[]) as pid`;
      terminated += victims.length;
    }
    const lastMs = Date.now();
    await traffic.stop();
    const slowest = distribution(traffic.attempts.map(({ durationMs }) => durationMs));
    console.log(
      `postgres terminated: ${terminated} backends, ${traffic.acknowledgedEvents()} events acknowledged, ` +
        `${traffic.duplicates()} retries recognised\n  ${slowest}; answers ${JSON.stringify(tally(traffic.attempts))}`,
    );
    expect(terminated, `${seed}: backends terminated`).toBeGreaterThan(0);
    expectAnswers(traffic.attempts, servedOrRefused, `${seed}: an answer, or a 503 with Retry-After, soon`);
    await expectNothingLost(stage, traffic, seed, lastMs + RECOVERY_MS);
  },
  90_000 + rounds(6) * 1_000,
);

test.concurrent("an immediate restart costs 503s while it lasts, and nothing that was acknowledged", async () => {
  const { random, seed, rngOf } = seeded("postgres restarted");
  const postgres = await startPostgres();
  await migrate(postgres.url);
  const stage = await createStage({ database: postgres.url });
  const [{ url }] = await Promise.all([startServer(stage.env), startWorker(stage.env)]);
  const traffic = startTraffic({ urls: [url], tenants: stage.tenants, rngOf });
  await eventually(() => expect(traffic.acknowledgedEvents()).toBeGreaterThan(200));
  await Bun.sleep(random.between(0, 1_000));

  await postgres.stop("immediate");
  const gone = traffic.attempts.length;
  await Bun.sleep(AWAY_MS);
  const during = traffic.attempts.slice(gone);
  await postgres.start();
  const backMs = Date.now();
  const served = (kind: Attempt["kind"], status: number) => (one: Attempt) =>
    one.kind === kind && one.status === status && one.startedAtMs >= backMs;
  await eventually(
    () => {
      expect(traffic.attempts.some(served("keyed", 202)), `${seed}: ingest has come back`).toBe(true);
      expect(traffic.attempts.some(served("read", 200)), `${seed}: reads have come back`).toBe(true);
    },
    { timeoutMs: BACK_MS, intervalMs: 20 },
  );
  console.log(
    `postgres restarted: away ${AWAY_MS} ms, served again ${Date.now() - backMs} ms after it was back; ` +
      `${traffic.acknowledgedEvents()} events acknowledged\n` +
      `  meanwhile ${distribution(during.map(({ durationMs }) => durationMs))}; answers ${JSON.stringify(tally(during))}`,
  );
  await Bun.sleep(500);
  await traffic.stop();
  const refused = during.filter(({ kind, status }) => kind !== "read" && status === 503);
  expect(refused.length, `${seed}: ingest says 503 while Postgres is away`).toBeGreaterThan(0);
  expectAnswers(traffic.attempts, servedOrRefused, `${seed}: an answer, or a 503 with Retry-After, soon`);
  await expectNothingLost(stage, traffic, seed, backMs + RECOVERY_MS);
}, 120_000);
