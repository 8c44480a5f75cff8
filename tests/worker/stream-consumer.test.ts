/**
 * The consumer-group protocol: take-over from dead members, wiped and trimmed streams, and no
 * member left behind.
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Redis } from "ioredis";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { startWorker } from "../../worker/main.ts";
import { countStored, createTenant, createTestApi, eventInput, type TestApi } from "../factories.ts";
import { cleanup, eventually, freePort, startWorker as spawnWorker } from "../harness.ts";

let api: TestApi;
let redis: Redis;
const opened: StreamConsumer[] = [];

const STREAM = { key: "{test}:stream", group: "readers", maxLength: 1_000 };

beforeAll(async () => {
  api = await createTestApi();
  ({ redis } = api.deps);
});
beforeEach(() => redis.flushall());
afterEach(async () => {
  for (const consumer of opened.splice(0)) await consumer.stop();
});
afterAll(cleanup);

/** A consumer that records what it handled. `minIdleMs` is as short as a test can wait for. */
function open(name: string, handle: (messages: StreamMessage[]) => Promise<void> = async () => {}) {
  const handled: string[] = [];
  const options = { topology: STREAM, name, batchSize: 10, blockMs: 200, minIdleMs: 50, reclaimEveryMs: 0 };
  const consumer = createConsumer(
    api.deps.redisFactory.blocking(name, options.blockMs),
    {
      ...options,
      async handle(messages) {
        await handle(messages);
        handled.push(...messages.map(({ fields }) => fields.n ?? ""));
      },
    },
    api.deps.log,
  );
  opened.push(consumer);
  return { consumer, handled };
}

const add = (n: number) => redis.xadd(STREAM.key, "*", "n", String(n));
const pending = async () => ((await redis.xpending(STREAM.key, STREAM.group)) as [number])[0];
const members = async () => ((await redis.xinfo("CONSUMERS", STREAM.key, STREAM.group)) as unknown[]).length;

test("reads what was added before the group was made, and deletes what is done", async () => {
  for (let n = 0; n < 25; n += 1) await add(n);
  const { consumer, handled } = open("a");
  consumer.start();
  await eventually(() => expect(handled.length).toBe(25));
  await eventually(async () => expect(await redis.xlen(STREAM.key)).toBe(0));
  expect(await pending()).toBe(0);
});

test("entries of a dead consumer are taken over, each once", async () => {
  await redis.xgroup("CREATE", STREAM.key, STREAM.group, "0", "MKSTREAM");
  for (let n = 0; n < 25; n += 1) await add(n);
  await redis.xreadgroup("GROUP", STREAM.group, "the-dead", "COUNT", 25, "STREAMS", STREAM.key, ">");
  expect(await pending()).toBe(25);
  const { consumer, handled } = open("heir");
  consumer.start();
  await eventually(async () => expect(await pending()).toBe(0));
  expect(handled.toSorted((a, b) => Number(a) - Number(b))).toEqual(
    Array.from({ length: 25 }, (_, n) => String(n)),
  );
  expect(await redis.xlen(STREAM.key)).toBe(0);
});

test("a failed handling leaves the entries pending and tries them again", async () => {
  let failures = 3;
  const { consumer, handled } = open("a", async () => {
    failures -= 1;
    if (failures >= 0) throw new Error("not yet");
  });
  consumer.start();
  await add(1);
  await eventually(() => expect(handled).toEqual(["1"]));
  await eventually(async () => expect(await pending()).toBe(0));
  expect(failures).toBe(-1);
});

test("goes on after FLUSHALL, while it waits and while it handles", async () => {
  let wipe = false;
  const { consumer, handled } = open("a", async () => {
    if (wipe) await redis.flushall();
    wipe = false;
  });
  consumer.start();
  await add(1);
  await eventually(() => expect(handled).toEqual(["1"]));
  await redis.flushall();
  await add(2);
  await eventually(() => expect(handled).toEqual(["1", "2"]));
  wipe = true;
  await add(3);
  await eventually(() => expect(handled).toContain("3"));
  await add(4);
  await eventually(() => expect(handled.at(-1)).toBe("4"));
  await eventually(async () => expect(await pending()).toBe(0));
});

test("a stream trimmed under pending entries leaves none pending", async () => {
  await redis.xgroup("CREATE", STREAM.key, STREAM.group, "0", "MKSTREAM");
  for (let n = 0; n < 8; n += 1) await add(n);
  await redis.xreadgroup("GROUP", STREAM.group, "the-dead", "COUNT", 8, "STREAMS", STREAM.key, ">");
  await redis.xtrim(STREAM.key, "MAXLEN", 2);
  const { consumer, handled } = open("heir");
  consumer.start();
  await eventually(async () => expect(await pending()).toBe(0));
  expect(handled.toSorted()).toEqual(["6", "7"]);
});

test("a stopped consumer leaves the group, unless something is pending for it", async () => {
  const idle = open("idle");
  idle.consumer.start();
  await add(1);
  await eventually(() => expect(idle.handled.length).toBe(1));
  await idle.consumer.stop();
  await idle.consumer.stop();
  expect(await members()).toBe(0);

  const stuck = open("stuck", async () => {
    throw new Error("never");
  });
  stuck.consumer.start();
  await add(2);
  await eventually(async () => expect(await pending()).toBe(1));
  await stuck.consumer.stop();
  expect(await members()).toBe(1);
  const { consumer, handled } = open("heir");
  consumer.start();
  await eventually(() => expect(handled).toEqual(["2"]));
});

test("stopping waits for the handling under way, and acknowledges it", async () => {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  const { consumer, handled } = open("a", async () => {
    entered.resolve();
    await gate.promise;
  });
  consumer.start();
  await add(1);
  await entered.promise;
  const stopped = consumer.stop();
  gate.resolve();
  await stopped;
  expect(handled).toEqual(["1"]);
  expect([await pending(), await redis.xlen(STREAM.key)]).toEqual([0, 0]);
});

test("fifty starts and stops of a worker leave no consumer, connection or lease behind", async () => {
  const tenant = await createTenant(api);
  const clients = async () => ((await redis.client("LIST")) as string).trim().split("\n").length;
  const before = await clients();
  for (let round = 0; round < 50; round += 1) {
    const worker = await startWorker(api.config, api.deps);
    if (round % 10 === 0) await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
    await worker.stop();
  }
  const key = "{footfall:event-batches}:stream";
  const consumers = await redis.xinfo("CONSUMERS", key, "rollup").catch(() => []);
  expect(consumers).toEqual([]);
  await eventually(async () => expect(await clients()).toBe(before));
  const leases = await api.sql`select name from leases`;
  expect(leases.length).toBe(0);
  expect((await countStored(api, tenant.tenantId)).events).toBe(5);
}, 30_000);

test("a worker that stops while Redis is away prints nothing but its log", async () => {
  const nowhere = `redis://127.0.0.1:${freePort()}`;
  const worker = await spawnWorker({ ...api.env, REDIS_URL: nowhere });
  expect(await worker.stop()).toBe(0);
  for (const line of worker.output().trim().split("\n")) expect(line).toStartWith("{");
}, 30_000);
