import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { waitUntilReady } from "../../src/redis/client.ts";
import { cleanup, eventually, startServer, startWorker } from "../harness.ts";
import { expectAnswers, expectNothingLost, RECOVERY_MS, tally } from "./invariants.ts";
import {
  countUndone,
  createStage,
  distribution,
  HOOK_MS,
  rounds,
  type Stage,
  seeded,
  thorough,
} from "./stage.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

/**
 * G10: Redis is wiped, stopped, killed, paused and full under load. Meanwhile every event is
 * accepted and every question answered, and the ledger is rolled up without Redis.
 */
const OUTAGE_MS = thorough ? 20_000 : 10_000;
const PAUSE_MS = 5_000;
const SLOWEST_MS = 2_000;

let stage: Stage;
let url: string;

beforeAll(async () => {
  stage = await createStage();
  url = (await startServer(stage.env)).url;
  await startWorker(stage.env);
}, HOOK_MS);
beforeEach(async () => {
  await waitUntilReady(stage.deps.redis, 5_000);
});
afterAll(cleanup, HOOK_MS);

const { random, seed, rngOf } = seeded("redis");
const all: Traffic[] = [];

/** Load around a fault. The fault's own requests are those that began while `fault` ran. */
async function under(name: string, fault: (traffic: Traffic) => Promise<void>): Promise<void> {
  const offset = 100_000 * (all.length + 1);
  const traffic = startTraffic({
    urls: [url],
    tenants: stage.tenants,
    rngOf: (n) => rngOf(offset + n),
    name: `${offset}`,
    readers: 2,
  });
  await Bun.sleep(300);
  const from = Date.now();
  await fault(traffic);
  const to = Date.now();
  await Bun.sleep(300);
  await traffic.stop();
  const during = traffic.attempts.filter(({ startedAtMs }) => startedAtMs >= from && startedAtMs <= to);
  const took = (kind: string) =>
    distribution(during.filter((one) => one.kind === kind).map((one) => one.durationMs));
  console.log(
    `redis ${name}: ${to - from} ms, ${traffic.acknowledgedEvents()} events; answers ${JSON.stringify(tally(during))}\n` +
      `  ingest ${took("keyed")} (blind ${took("blind")}); reads ${took("read")}`,
  );
  expectAnswers(
    traffic.attempts,
    ({ kind, status, durationMs }) => status === (kind === "read" ? 200 : 202) && durationMs < SLOWEST_MS,
    `${seed}, ${name}: every event is accepted and every question answered, in less than ${SLOWEST_MS} ms`,
  );
  all.push(traffic);
  if (!thorough) return;
  await expectNothingLost(stage, traffic, seed, to + RECOVERY_MS);
  console.log(`  quiet ${Date.now() - to} ms later`);
}

/**
 * Work goes on from the ledger: what was received when Redis went is rolled up while it is still
 * away.
 */
async function expectRolledUp(receivedBefore: Date, deadlineMs: number): Promise<void> {
  await eventually(async () => expect(await countUndone(stage, receivedBefore)).toBe(0), {
    timeoutMs: deadlineMs,
  });
}

test(
  "wiped again and again",
  () =>
    under("wiped", async () => {
      for (let round = 0; round < rounds(8); round += 1) {
        await Bun.sleep(random.between(0, 500));
        await stage.deps.redis.flushall();
      }
    }),
  90_000 + rounds(8) * 1_000,
);

test(
  "stopped and started",
  () =>
    under("stopped", async () => {
      await stage.redis.stop();
      const stoppedAt = new Date();
      const started = performance.now();
      if (thorough) await expectRolledUp(stoppedAt, OUTAGE_MS);
      await Bun.sleep(Math.max(OUTAGE_MS - (performance.now() - started), 0));
      await stage.redis.start();
    }),
  120_000,
);

test(
  "killed and started",
  () =>
    under("killed", async () => {
      await stage.redis.kill();
      await Bun.sleep(random.between(0, 2_000));
      await stage.redis.start();
    }),
  90_000,
);

test(
  "paused",
  () =>
    under("paused", async () => {
      stage.redis.pause();
      await Bun.sleep(PAUSE_MS);
      stage.redis.resume();
    }),
  90_000,
);

test(
  "full, and refusing every write",
  () =>
    under("full", async (traffic) => {
      await stage.deps.redis.config("SET", "maxmemory-policy", "noeviction");
      await stage.deps.redis.config("SET", "maxmemory", "1mb");
      await expect(stage.deps.redis.set("a-write", "1")).rejects.toThrow(/OOM/);
      const before = traffic.acknowledgedEvents();
      await eventually(() => expect(traffic.acknowledgedEvents()).toBeGreaterThan(before + 1_000));
      // None of these was announced, and still they are rolled up while Redis is full.
      await expectRolledUp(new Date(), RECOVERY_MS);
      await stage.deps.redis.config("SET", "maxmemory", "0");
    }),
  120_000,
);

test("after all of this everything accepted is there once, and the rollups equal a recount", async () => {
  const deadlineMs = Date.now() + RECOVERY_MS;
  for (const traffic of all) await expectNothingLost(stage, traffic, seed, deadlineMs);
}, 60_000);
