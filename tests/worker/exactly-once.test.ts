/** G2: whatever happens to announcements, every batch is counted once. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { newId } from "../../src/core/ids.ts";
import type { Deps } from "../../src/deps.ts";
import { encodeAnnouncement } from "../../src/streams/messages.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { createRollupConsumer } from "../../worker/consumers/rollup.ts";
import {
  countDeadlocks,
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  await api.deps.redis.flushall();
});
afterAll(cleanup);

interface BatchId {
  tenantId: string;
  batchId: string;
}

/** `count` batches of `size` events each, over a hundred products, users and sessions. */
async function ingest(count: number, size: number): Promise<BatchId[]> {
  const { tenantId, key } = tenant;
  for (let batch = 0; batch < count; batch += 1) {
    const events = Array.from({ length: size }, (_, n) => {
      const k = (batch * 37 + n * 61) % 100;
      return eventInput({
        type: n % 5 ? "view" : "purchase",
        productId: `p-${k}`,
        userId: `u-${k}`,
        sessionId: `s-${k}`,
        properties: { price: 0.01, country: `c-${k}` },
      });
    });
    await api.call("POST", "/events/bulk", { as: key, json: { events } });
  }
  const rows = await api.sql<
    BatchId[]
  >`select tenant_id as "tenantId", batch_id as "batchId" from event_batches
    where tenant_id = ${tenantId} order by batch_id`;
  return [...rows];
}

/** Events that each rollup and the accounting have counted. */
async function counted() {
  const { tenantId } = tenant;
  const [row] = await api.sql`select
    (select coalesce(sum(events), 0)::int from product_daily_stats where tenant_id = ${tenantId}) as products,
    (select coalesce(sum(events) filter (where period = 'month'), 0)::int from product_period_stats where tenant_id = ${tenantId}) as months,
    (select coalesce(sum(events) filter (where period = 'sixth'), 0)::int from product_period_stats where tenant_id = ${tenantId}) as sixths,
    (select coalesce(sum(events), 0)::int from user_daily_stats where tenant_id = ${tenantId}) as users,
    (select coalesce(sum(events), 0)::int from session_daily_stats where tenant_id = ${tenantId}) as sessions,
    (select coalesce(sum(events), 0)::int from event_hourly_stats where tenant_id = ${tenantId}) as hours,
    (select coalesce(sum(events), 0)::int from event_daily_stats where tenant_id = ${tenantId}) as days,
    (select coalesce(sum(events), 0)::int from property_daily_stats where tenant_id = ${tenantId}) as properties,
    (select coalesce(sum(stored), 0)::int from ingest_hourly_stats where tenant_id = ${tenantId}) as stored`;
  return row;
}

const each = (n: number) => ({
  products: n,
  months: n,
  sixths: n,
  users: n,
  sessions: n,
  hours: n,
  days: n,
  properties: n,
  stored: n,
});

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = (n: number) => Math.imul(n ^ (n >>> 15), 0x2c1b3c6d ^ seed) >>> 0;
  return items
    .map((item, n) => ({ item, at: random(n + seed * 7919) }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

describe("rolling up", () => {
  test("the same batches by several workers at once counts them once", async () => {
    const batches = await ingest(10, 20);
    const workers = [api.deps, createTestDeps(api.config), createTestDeps(api.config)];
    const claimed = await Promise.all(
      workers.flatMap(({ rollups }) => [rollups.rollUp(batches), rollups.rollUp(batches.toReversed())]),
    );
    expect(claimed.reduce((sum, n) => sum + n)).toBe(10);
    expect(await counted()).toEqual(each(200));
  });

  test("again, one by one, changes nothing", async () => {
    const batches = await ingest(3, 20);
    expect(await api.deps.rollups.rollUp(batches)).toBe(3);
    for (const batch of batches) expect(await api.deps.rollups.rollUp([batch])).toBe(0);
    expect(await counted()).toEqual(each(60));
  });

  test("a batch that is named twice in one call counts it once", async () => {
    const batches = await ingest(2, 20);
    expect(await api.deps.rollups.rollUp([...batches, ...batches, ...batches])).toBe(2);
    expect(await counted()).toEqual(each(40));
  });

  test("a batch that is not committed yet does nothing, and is counted when it is", async () => {
    const early = { tenantId: tenant.tenantId, batchId: newId() };
    expect(await api.deps.rollups.rollUp([early])).toBe(0);
    const [real] = await ingest(1, 20);
    await api.sql`update events set batch_id = ${early.batchId} where batch_id = ${real?.batchId ?? ""}`;
    await api.sql`update event_batches set batch_id = ${early.batchId} where batch_id = ${real?.batchId ?? ""}`;
    expect(await api.deps.rollups.rollUp([early])).toBe(1);
    expect(await counted()).toEqual(each(20));
  });

  test("a batch under another tenant's name does nothing", async () => {
    const other = await createTenant(api);
    const [batch] = await ingest(1, 20);
    expect(await api.deps.rollups.rollUp([{ tenantId: other.tenantId, batchId: batch?.batchId ?? "" }])).toBe(
      0,
    );
    expect(await counted()).toEqual(each(0));
  });

  test("a batch of nothing but duplicates is done and accounted for", async () => {
    const events = [eventInput({ messageId: "m" })];
    for (let round = 0; round < 3; round += 1)
      await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
    const rows = await api.sql<
      BatchId[]
    >`select tenant_id as "tenantId", batch_id as "batchId" from event_batches
      where tenant_id = ${tenant.tenantId}`;
    expect(await api.deps.rollups.rollUp(rows)).toBe(3);
    const [kept] = await api.sql`select received::int, stored::int, duplicates::int, rejected::int
      from ingest_hourly_stats where tenant_id = ${tenant.tenantId}`;
    expect(kept).toEqual({ received: 3, stored: 1, duplicates: 2, rejected: 0 });
  });

  describe("the same hundred keys by four workers, two statements each at once", () => {
    async function rollUpBy(shares: BatchId[][]): Promise<void> {
      const workers = shares.map(() => createTestDeps(api.config));
      const work = async ({ rollups }: Deps, share: BatchId[]) => {
        let claimed = 0;
        const next = async (): Promise<void> => {
          const chunk = share.splice(0, 6);
          if (chunk.length === 0) return;
          const done = await rollups.rollUp(chunk);
          claimed += done;
          return next();
        };
        await Promise.all([next(), next()]);
        return claimed;
      };
      const claimed = await Promise.all(workers.map((deps, n) => work(deps, shares[n] ?? [])));
      expect(claimed.reduce((sum, n) => sum + n)).toBe(120);
      expect(await counted()).toEqual(each(2_400));
      // A deadlock is solved by a retry, so only the statistics show it.
      expect(
        await countDeadlocks(
          api,
          workers.map(({ db }) => db.rollup),
        ),
      ).toBe(0);
    }

    test("batches of their own: they meet at the keys", async () => {
      const batches = shuffled(await ingest(120, 20), 1);
      // Received in different hours: otherwise the one row of the hour's accounting makes them run
      // one after the other.
      for (const [n, { batchId }] of batches.entries())
        await api.sql`update event_batches set received_at = received_at - ${n} * interval '1 hour'
          where tenant_id = ${tenant.tenantId} and batch_id = ${batchId}`;
      await rollUpBy([0, 1, 2, 3].map((n) => batches.filter((_, k) => k % 4 === n)));
    });

    test("all batches in orders of their own: they meet at the ledger", async () => {
      const batches = await ingest(120, 20);
      await rollUpBy([1, 2, 3, 4].map((seed) => shuffled(batches, seed)));
    });
  });
});

describe("the stream", () => {
  const announce = (batch: BatchId) =>
    api.deps.redis.xadd(
      EVENT_BATCHES.key,
      "*",
      ...encodeAnnouncement({ ...batch, minMs: Date.now(), maxMs: Date.now() }),
    );

  test("delivers a batch three times and to three consumers: counted once, and nothing is left over", async () => {
    const batches = await ingest(5, 20);
    for (const batch of [...batches, ...batches.toReversed()]) await announce(batch);
    const workers = [api.deps, createTestDeps(api.config), createTestDeps(api.config)];
    const consumers = workers.map((deps, n) => createRollupConsumer(deps, `consumer-${n}`));
    for (const consumer of consumers) consumer.start();
    await eventually(async () => expect(await api.deps.redis.xlen(EVENT_BATCHES.key)).toBe(0));
    await Promise.all(consumers.map((consumer) => consumer.stop()));
    expect(await counted()).toEqual(each(100));
    expect(await api.deps.redis.xpending(EVENT_BATCHES.key, EVENT_BATCHES.group)).toEqual([
      0,
      null,
      null,
      null,
    ]);
  });

  test("survives messages that are no announcements", async () => {
    const [batch] = await ingest(1, 20);
    const { redis } = api.deps;
    await redis.del(EVENT_BATCHES.key);
    for (const fields of [
      ["hello", "world"],
      ["v", "2", "t", tenant.tenantId, "b", batch?.batchId ?? ""],
      ["v", "1", "t", "not-a-uuid", "b", "x"],
      ["v", "1", "t", tenant.tenantId, "b", newId(), "min", "NaN", "max", "later"],
      ["v", "1", "t", tenant.tenantId, "b", newId(), "min", "9e99", "max", "9e99"],
      ["v", "1", "t", tenant.tenantId, "b", newId(), "min", "-9e99", "max", "9e99"],
    ])
      await redis.xadd(EVENT_BATCHES.key, "*", ...fields);
    if (batch) await announce(batch);
    const consumer = createRollupConsumer(api.deps, "consumer-junk");
    consumer.start();
    await eventually(async () => expect(await redis.xlen(EVENT_BATCHES.key)).toBe(0));
    await consumer.stop();
    expect(await counted()).toEqual(each(20));
  });
});
