import { afterAll, beforeAll, expect, test } from "bun:test";
import { cleanup, eventually, freePort, startServer, startWorker } from "../harness.ts";
import { expectAnswers, expectNothingLost, tally } from "./invariants.ts";
import {
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
} from "./stage.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

/**
 * SIGTERM under load: every accepted request is answered, what was begun is finished, and the exit
 * code is 0. The kernel resets connections that still wait when the socket closes, and an idle
 * connection may be closed while a request is on its way. Such a request must not have been
 * accepted: its retry is no duplicate, and without one nothing is stored.
 */
const ROUNDS = rounds(4);

let stage: Stage;

beforeAll(async () => {
  stage = await createStage();
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

test(
  "two servers are restarted in turn and no request fails",
  async () => {
    const { random, seed, rngOf } = seeded("shutdown");
    const ports = [String(freePort()), String(freePort())];
    const start = (PORT: string) => startServer({ ...stage.env, PORT });
    const servers = await Promise.all(ports.map(start));
    await startWorker(stage.env);
    const urls = servers.map(({ url }) => url);
    const traffic = startTraffic({ urls, tenants: stage.tenants, rngOf, pauseMs: 30 });
    const stops: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      await Bun.sleep(random.between(200, 800));
      const n = round % ports.length;
      const started = performance.now();
      expect(await servers[n]?.stop(), `${seed}, round ${round}: exit code`).toBe(0);
      stops.push(performance.now() - started);
      servers[n] = await start(ports[n] ?? "");
    }
    await traffic.stop();
    console.log(
      `shutdown: ${ROUNDS} stops, ${distribution(stops)}; ${traffic.acknowledgedEvents()} events acknowledged; ` +
        `answers ${JSON.stringify(tally(traffic.attempts))}`,
    );
    expectAnswers(
      traffic.attempts,
      ({ kind, status, failure }) =>
        status === (kind === "read" ? 200 : 202) || (status === null && failure.includes("ECONNRESET")),
      `${seed}: served, or reset at the door`,
    );
    const reset = traffic.attempts.filter(({ status }) => status === null).length;
    expect(reset, `${seed}: few are so unlucky`).toBeLessThanOrEqual(ROUNDS * 3);
    expect(traffic.duplicates(), `${seed}: a request that was reset had not been let in`).toBe(0);
    expect(await storedWithoutAnswer(traffic), `${seed}: requests that were let in and not answered`).toEqual(
      [],
    );
    await expectNothingLost(stage, traffic, seed);
  },
  60_000 + ROUNDS * 10_000,
);

test("a worker finishes its statement, leaves its group and exits with 0", async () => {
  const { seed, rngOf } = seeded("shutdown worker");
  const { url } = await startServer(stage.env);
  // The worker of the test above would take over what this one leaves.
  const before = new Set((await groupMembers(stage)).map(({ name }) => name));
  const worker = await startWorker(stage.env);
  const isOurs = ({ name }: { name: string }) => name.startsWith(`${worker.pid}-`);
  const traffic = startTraffic({ urls: [url], tenants: stage.tenants, rngOf, name: "w" });
  await eventually(async () => expect((await groupMembers(stage)).filter(isOurs)).toHaveLength(1));

  const release = await holdTable(stage, "product_daily_stats");
  await untilBlocked(stage, "worker");
  // Both workers stand still with messages in their hands.
  await eventually(async () => expect((await groupMembers(stage)).find(isOurs)?.pending).toBeGreaterThan(0));
  const stopped = worker.stop();
  await traffic.stop();
  expect(await countUndone(stage), `${seed}: batches that wait for the lock`).toBeGreaterThan(0);
  await release();
  expect(await stopped, `${seed}: exit code\n${worker.output()}`).toBe(0);
  const members = await groupMembers(stage);
  expect(members.filter(isOurs), `${seed}: its member of the group`).toEqual([]);
  expect(members.filter(({ name }) => !before.has(name))).toEqual([]);
  await expectNothingLost(stage, traffic, seed);
}, 60_000);

/** Requests without messageId that are stored although their client got no answer. */
async function storedWithoutAnswer({ promised }: Traffic): Promise<string[]> {
  const names = promised.flatMap(({ blindRequests }) =>
    [...blindRequests].filter(([, { acknowledged }]) => !acknowledged).map(([name]) => name),
  );
  const rows = await stage.sql<{ session_id: string }[]>`
    select distinct session_id from events where session_id = any(${stage.sql.array(names)}::text[])`;
  return rows.map((row) => row.session_id);
}
