import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventInput } from "../factories.ts";
import { cleanup, eventually, type FootfallProcess, freePort, startServer, startWorker } from "../harness.ts";
import { expectAnswers, expectNothingLost, RECOVERY_MS, tally } from "./invariants.ts";
import { createStage, distribution, HOOK_MS, holdMessage, rounds, type Stage, seeded } from "./stage.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

/**
 * kill -9 of the API under load, and a start again on its port. Some kills are aimed: at the commit
 * of a known message, which succeeds after its process is dead, so its retry must be recognised;
 * and between commit and XADD, by a Redis that takes no writes, so batches are never announced.
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
      const point = POINTS[round % POINTS.length] ?? "anywhere";
      const committed = point === "inside of a commit" ? `aimed-${round}` : null;
      await (committed === null ? kill(api, point) : killInCommit(api, url, committed));
      lastKillMs = Date.now();
      api = await start();
      outages.push(Date.now() - lastKillMs);
      if (committed !== null) await expectRecognised(traffic, url, committed, seed);
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
  },
  60_000 + ROUNDS * 25_000,
);

async function kill(api: FootfallProcess, point: Point): Promise<void> {
  const end = async () => {
    api.kill("SIGKILL");
    await api.exited;
  };
  if (point !== "between commit and XADD") return end();
  // Writes wait inside Redis, and those of a dead client are dropped: nobody announces these
  // batches.
  await stage.deps.redis.client("PAUSE", 60_000, "WRITE");
  await Bun.sleep(200);
  await end();
  await Bun.sleep(50);
  await stage.deps.redis.client("UNPAUSE");
}

/** Kills the API while it commits the message; the statement goes on once its process is dead. */
async function killInCommit(api: FootfallProcess, url: string, messageId: string): Promise<void> {
  const held = await holdMessage(stage, aimedAt().tenantId, messageId);
  const lost = post(url, messageId).then(
    ({ status }) => status,
    () => null,
  );
  try {
    await held.blocks();
    api.kill("SIGKILL");
    await api.exited;
    expect(await lost, "the message is not acknowledged").toBeNull();
  } finally {
    await held.release();
  }
}

/** The retry of a message whose commit survived its process. */
async function expectRecognised(
  { promised }: Traffic,
  url: string,
  messageId: string,
  seed: string,
): Promise<void> {
  const { status, body } = await eventually(() => post(url, messageId).catch(() => null));
  expect([status, body.duplicate], `${seed}: the retry of what a dead process had committed`).toEqual([
    202,
    true,
  ]);
  promised[0]?.messages.set(messageId, body.id);
}

function aimedAt() {
  const [tenant] = stage.tenants;
  if (!tenant) throw new Error("the stage has no tenant");
  return tenant;
}

async function post(url: string, messageId: string) {
  const response = await fetch(`${url}/events`, {
    method: "POST",
    headers: { authorization: `Bearer ${aimedAt().key}`, "content-type": "application/json" },
    body: JSON.stringify(eventInput({ messageId })),
    // On a kept connection that dies, fetch repeats the request by itself.
    keepalive: false,
  });
  return { status: response.status, body: (await response.json()) as { id: string; duplicate: boolean } };
}
