import { afterAll, beforeAll, expect, test } from "bun:test";
import { cleanup, type FootfallProcess, freePort, startServer, startWorker } from "../harness.ts";
import { expectAnswers, expectNothingLost, RECOVERY_MS, tally } from "./invariants.ts";
import {
  createStage,
  distribution,
  HOOK_MS,
  holdTable,
  rounds,
  type Stage,
  seeded,
  untilBlocked,
} from "./stage.ts";
import { startTraffic } from "./traffic.ts";

/**
 * kill -9 of the API under load, and a start again on its port. Some points are aimed: at a commit that is under way and
 * succeeds after its process is dead, so that the clients' retries must be recognised; and between commit and XADD, by a
 * Redis that takes no writes, so that batches are never announced.
 */
const ROUNDS = rounds(4);

let stage: Stage;
let port: string;

beforeAll(async () => {
  stage = await createStage();
  port = String(freePort());
  await startWorker(stage.env);
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

type Point = "anywhere" | "inside of a commit" | "between commit and XADD";
const POINTS: Point[] = ["anywhere", "inside of a commit", "anywhere", "between commit and XADD"];

test(
  "an API killed anywhere keeps what it acknowledged, once",
  async () => {
    const { random, seed, rngOf } = seeded("api killed");
    const start = () => startServer({ ...stage.env, PORT: port });
    let api = await start();
    const url = api.url;
    const traffic = startTraffic({ urls: [url], tenants: stage.tenants, rngOf });
    const outages: number[] = [];
    let lastKillMs = 0;

    for (let round = 0; round < ROUNDS; round += 1) {
      await Bun.sleep(random.between(50, 1_500));
      await kill(api, POINTS[round % POINTS.length] ?? "anywhere");
      lastKillMs = Date.now();
      api = await start();
      outages.push(Date.now() - lastKillMs);
    }

    await traffic.stop();
    console.log(
      `api killed: ${ROUNDS} points, ${traffic.acknowledgedEvents()} events acknowledged, ${traffic.duplicates()} retries recognised\n` +
        `  away ${distribution(outages)}; answers ${JSON.stringify(tally(traffic.attempts))}`,
    );
    expectAnswers(
      traffic.attempts,
      ({ kind, status }) => status === null || status === (kind === "read" ? 200 : 202),
      `${seed}: a request is served or its connection lost, and nothing else`,
    );
    await expectNothingLost(stage, traffic, seed, lastKillMs + RECOVERY_MS);
    console.log(`  quiet ${Date.now() - lastKillMs} ms after the last kill`);
    expect(traffic.duplicates(), `${seed}: retries of what a dead process had committed`).toBeGreaterThan(0);
  },
  60_000 + ROUNDS * 25_000,
);

async function kill(api: FootfallProcess, point: Point): Promise<void> {
  const end = async () => {
    api.kill("SIGKILL");
    await api.exited;
  };
  if (point === "inside of a commit") {
    const release = await holdTable(stage, "event_batches");
    try {
      await untilBlocked(stage, "api");
      await end();
    } finally {
      await release();
    }
  } else if (point === "between commit and XADD") {
    // Writes wait inside of Redis, and those of a client that has died are dropped: nobody announces these batches.
    await stage.deps.redis.client("PAUSE", 60_000, "WRITE");
    await Bun.sleep(200);
    await end();
    await Bun.sleep(50);
    await stage.deps.redis.client("UNPAUSE");
  } else await end();
}
