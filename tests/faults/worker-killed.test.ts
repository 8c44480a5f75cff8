import { afterAll, beforeAll, expect, test } from "bun:test";
import { createConsumer } from "../../src/streams/consumer.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { cleanup, eventually, type FootfallProcess, startServer, startWorker } from "../harness.ts";
import { expectAnswers, expectNothingLost, RECOVERY_MS, tally } from "./invariants.ts";
import {
  blockedBackends,
  countUndone,
  createStage,
  distribution,
  groupMembers,
  HOOK_MS,
  holdTable,
  rounds,
  type Stage,
  seeded,
  untilBlocked,
  untilIdle,
} from "./stage.ts";
import { startTraffic } from "./traffic.ts";

/**
 * kill -9 of workers under load. A third of the kills is anywhere; a third is aimed before the
 * commit, by a lock that the statement waits for; a third between commit and XACK, by a stopped
 * Redis. Recovery (G3) is the time from the kill until everything received before it is rolled up.
 */
const ROUNDS = rounds(2);
/** Members that died longer ago than this must be gone from the group. */
const FORGOTTEN_MS = 90_000;

let stage: Stage;
let url: string;

beforeAll(async () => {
  stage = await createStage();
  url = (await startServer(stage.env)).url;
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

type Point = "anywhere" | "before the commit" | "between commit and XACK";
const POINTS: Point[] = ["between commit and XACK", "before the commit", "anywhere"];

test(
  "a worker killed anywhere loses nothing, doubles nothing and holds nothing up",
  async () => {
    const { random, seed, rngOf } = seeded("worker killed");
    const traffic = startTraffic({ urls: [url], tenants: stage.tenants, rngOf });
    const workers: FootfallProcess[] = [await startWorker(stage.env)];
    const recoveries: Record<Point, number[]> = {
      anywhere: [],
      "before the commit": [],
      "between commit and XACK": [],
    };
    let lastKillMs = 0;

    for (let round = 0; round < ROUNDS; round += 1) {
      const point = POINTS[round % POINTS.length] ?? "anywhere";
      const wanted = random.chance(0.3) ? 2 : 1;
      while (workers.length < wanted) workers.push(await startWorker(stage.env));
      const victim = workers.shift();
      if (!victim) throw new Error("there is no worker to kill");
      await Bun.sleep(random.between(0, 1_000));
      const killedAt = await kill(victim, point, random.chance(0.5));
      lastKillMs = Date.now();
      const started = performance.now();
      // As a supervisor does: a new process in place of the old one.
      if (workers.length === 0) workers.push(await startWorker(stage.env));
      await eventually(
        async () =>
          expect(await countUndone(stage, killedAt), `${seed}, round ${round}: batches undone`).toBe(0),
        { timeoutMs: RECOVERY_MS, intervalMs: 25 },
      );
      recoveries[point].push(performance.now() - started);
    }

    await traffic.stop();
    console.log(`worker killed: ${ROUNDS} points, ${traffic.acknowledgedEvents()} events acknowledged`);
    for (const [point, values] of Object.entries(recoveries))
      console.log(`  recovery, killed ${point} (${values.length}): ${distribution(values)}`);
    const all = Object.values(recoveries).flat();
    console.log(`  recovery, all: ${distribution(all)}; answers ${JSON.stringify(tally(traffic.attempts))}`);
    expect(Math.max(...all), `${seed}: longest recovery`).toBeLessThanOrEqual(RECOVERY_MS);
    expectAnswers(
      traffic.attempts,
      ({ kind, status }) => status === (kind === "read" ? 200 : 202),
      `${seed}: clients don't notice that a worker dies`,
    );
    await expectNothingLost(stage, traffic, seed, lastKillMs + RECOVERY_MS);
    const old = (await groupMembers(stage)).filter(({ idleMs }) => idleMs > FORGOTTEN_MS);
    expect(old, `${seed}: members that died ${FORGOTTEN_MS} ms ago are gone`).toEqual([]);
  },
  60_000 + ROUNDS * 35_000,
);

test("members that died with nothing pending leave the group, however many they are", async () => {
  const { deps } = stage;
  const member = (name: string) =>
    createConsumer(
      deps.redisFactory.blocking("test", 100),
      {
        topology: { ...EVENT_BATCHES, key: "{footfall:leak}:stream" },
        name,
        batchSize: 10,
        blockMs: 100,
        minIdleMs: 1,
        reclaimEveryMs: 0,
        abandonedAfterMs: 500,
        handle: async () => {},
      },
      deps.log,
    );
  const key = "{footfall:leak}:stream";
  await deps.redis.xgroup("CREATE", key, EVENT_BATCHES.group, "0", "MKSTREAM");
  for (let n = 0; n < 500; n += 1)
    await deps.redis.xgroup("CREATECONSUMER", key, EVENT_BATCHES.group, `dead-${n}`);
  await deps.redis.xadd(key, "*", "n", "1");
  await deps.redis.xreadgroup("GROUP", EVENT_BATCHES.group, "dead-7", "COUNT", 1, "STREAMS", key, ">");
  const living = member("living");
  living.start();
  await eventually(async () => expect(await namesIn(key)).toEqual(["living"]));
  expect(await deps.redis.xlen(key), "the entry of the dead member was taken over").toBe(0);
  await living.stop();
  expect(await namesIn(key)).toEqual([]);
});

async function namesIn(key: string): Promise<string[]> {
  const members = (await stage.deps.redis.xinfo("CONSUMERS", key, EVENT_BATCHES.group)) as string[][];
  return members.map((member) => String(member[1]));
}

/** Kills a worker at such a point; returns the database's time at which it was dead. */
async function kill(victim: FootfallProcess, point: Point, abort: boolean): Promise<Date> {
  if (point === "anywhere") return killNow(victim);
  // Every rollup statement writes this table first.
  const release = await holdTable(stage, "product_daily_stats");
  try {
    const blocked = await untilBlocked(stage, "worker");
    if (point === "before the commit") {
      const killedAt = await killNow(victim);
      // The orphaned statement is still there. Half of them fail now, the others commit for a dead
      // worker.
      if (abort)
        await stage.sql`select pg_terminate_backend(pid) from unnest(${stage.sql.array(blocked)}::int[]) pid`;
      return killedAt;
    }
  } finally {
    if (point !== "before the commit") stage.redis.pause();
    await release();
  }
  await eventually(async () => (await blockedBackends(stage, "worker")).length === 0, { intervalMs: 2 });
  await untilIdle(stage, "worker");
  const killedAt = await killNow(victim);
  stage.redis.resume();
  return killedAt;
}

async function killNow(victim: FootfallProcess): Promise<Date> {
  victim.kill("SIGKILL");
  await victim.exited;
  const [row] = await stage.sql<{ now: Date }[]>`select clock_timestamp() as now`;
  if (!row) throw new Error("the database has no time");
  return row.now;
}
