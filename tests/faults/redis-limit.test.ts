/**
 * Redis at its memory limit under the policy of docs/limits.md: the cache makes room, streams and
 * limits stay.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { newId } from "../../src/core/ids.ts";
import { findMemoryRisk } from "../../src/redis/memory-limit.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { createRollupConsumer } from "../../worker/consumers/rollup.ts";
import { createTenant, createTestApi, eventInput, type TestApi } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

/** How much Redis may take beyond what it takes when the test begins. */
const ROOM_BYTES = 6 * 1024 * 1024;
const ENTRY_BYTES = 5_000;
/** Of about 1,200 that find room. */
const ENTRIES_A_ROUND = 500;
const ROUNDS = 5;
const POLICY = { limit: 20, windowMs: 600_000 };

const infoOf = async (section: string, field: string) =>
  Number(new RegExp(`^${field}:(\\d+)`, "m").exec(await api.deps.redis.info(section))?.[1]);
const totalOf = async (counter: { get(): Promise<{ values: { value: number }[] }> }) =>
  (await counter.get()).values.reduce((sum, { value }) => sum + value, 0);

/** Answers of a tenant of their own, until all are stored. */
async function fillCache(round: number): Promise<void> {
  const tenantId = newId();
  const ask = (n: number) =>
    api.deps.cache.getOrCompute(
      {
        tenantId,
        scope: "analytics",
        name: `${round} ${n}`,
        tags: ["t"],
        ttlSeconds: 600,
        toleratesStale: true,
      },
      async () => "x".repeat(ENTRY_BYTES),
    );
  for (let n = 0; n < ENTRIES_A_ROUND; n += 50)
    await Promise.all(Array.from({ length: 50 }, (_, one) => ask(n + one)));
  await api.deps.redis.ping();
}

/** Redis compares last uses by a clock of seconds. */
async function waitForAnotherSecond(): Promise<void> {
  const key = `{${newId()}}:clock`;
  await api.deps.redis.set(key, "", "EX", 60);
  await eventually(async () => expect(await api.deps.redis.object("IDLETIME", key)).toBeGreaterThan(0));
}

test("streams keep every announcement and limits every count while the cache is evicted", async () => {
  const { redis, rateCounters, metrics } = api.deps;
  const tenant = await createTenant(api);
  await redis.config("SET", "maxmemory-policy", "volatile-lru");
  await redis.config("SET", "maxmemory", (await infoOf("memory", "used_memory")) + ROOM_BYTES);
  const failedBefore = await totalOf(metrics.announcementsFailed);
  const key = `{${tenant.tenantId}}:principal:standard`;
  let admitted = 0;
  let events = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (let n = 0; n < 6; n += 1) {
      if ((await rateCounters.shared(key, POLICY)).admitted) admitted += 1;
      const answer = await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
      expect(answer.status).toBe(202);
      events += 1;
    }
    await fillCache(round);
    await waitForAnotherSecond();
  }
  const evicted = await infoOf("stats", "evicted_keys");
  console.log(`${evicted} keys evicted, ${events} events, ${admitted} of ${ROUNDS * 6} requests admitted`);
  expect(evicted).toBeGreaterThan(ENTRIES_A_ROUND);
  expect(admitted).toBe(POLICY.limit);
  expect(await redis.xlen(EVENT_BATCHES.key)).toBe(events);
  expect(await totalOf(metrics.announcementsFailed)).toBe(failedBefore);
  // From the stream, not from the ledger: nobody sweeps here.
  const consumer = createRollupConsumer(api.deps, "test");
  // As soon as its connection is there.
  await eventually(() => consumer.runOnce({ block: false }));
  while ((await consumer.runOnce({ block: false })) > 0);
  await consumer.stop();
  const { body } = await api.call("GET", "/analytics/summary?days=2", { as: tenant.key });
  expect(body.totals.views).toBe(events);
}, 60_000);

test("control: without eviction a full Redis takes neither announcements nor counts", async () => {
  const { redis, rateCounters, metrics } = api.deps;
  const tenant = await createTenant(api);
  await redis.config("SET", "maxmemory-policy", "noeviction");
  await redis.config("SET", "maxmemory", "1mb");
  const failedBefore = await totalOf(metrics.announcementsFailed);
  await expect(rateCounters.shared(`{${tenant.tenantId}}:control`, POLICY)).rejects.toThrow("OOM");
  const { status } = await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
  expect(status).toBe(202);
  await eventually(async () =>
    expect(await totalOf(metrics.announcementsFailed)).toBeGreaterThan(failedBefore),
  );
  await redis.config("SET", "maxmemory", "0");
});

test("a Redis without limit, or that would not make room, is told at the start", async () => {
  const { redis } = api.deps;
  const risk = async (maxmemory: string, policy: string) => {
    await redis.config("SET", "maxmemory-policy", policy);
    await redis.config("SET", "maxmemory", maxmemory);
    return findMemoryRisk(redis);
  };
  expect(await risk("0", "volatile-lru")).toContain("no memory limit");
  expect(await risk("256mb", "allkeys-lru")).toContain("allkeys-lru");
  expect(await risk("256mb", "noeviction")).toContain("noeviction");
  expect(await risk("256mb", "volatile-lru")).toBeNull();
});
