/**
 * One tenant of fifty can't be rolled up: the others pay some statements once, and nothing after
 * that.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Sql } from "../../src/db/client.ts";
import { createRollupRetries, createRollupService } from "../../src/features/rollups/index.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { createRollupConsumer } from "../../worker/consumers/rollup.ts";
import { createSweeper } from "../../worker/jobs/sweeper.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, runFootfall } from "../harness.ts";

const TENANTS = 50;
/** The statement over all, and two for each halving of fifty tenants. */
const MOST_TO_FIND_ONE = 1 + 2 * Math.ceil(Math.log2(TENANTS));

let api: TestApi;
let shops: TestTenant[];

beforeAll(async () => {
  api = await createTestApi();
  shops = [];
  for (let n = 0; n < TENANTS; n += 1) shops.push(await createTenant(api));
});
beforeEach(async () => {
  await api.sql`update tenants set time_zone = 'UTC'`;
  do await api.sql`update rollup_failures set retry_at = now()`;
  while ((await api.deps.rollupRetries.retryDue()) > 0);
  await rollUpAll(api);
  await api.sql`truncate rollup_failures`;
});
afterAll(cleanup);

const poison = (shop: TestTenant) =>
  api.sql`update tenants set time_zone = 'Nowhere/Land' where id = ${shop.tenantId}`;

const ingest = ({ key }: TestTenant) => api.call("POST", "/events", { as: key, json: eventInput() });
const ingestAll = () => Promise.all(shops.map(ingest));

/** What the stream announces: every batch of this moment. */
const announced = () =>
  api.sql<{ tenantId: string; batchId: string; minMs: null; maxMs: null }[]>`
    select tenant_id as "tenantId", batch_id as "batchId", null as "minMs", null as "maxMs" from event_batches
    where rolled_up_at is null and not held order by received_at`;

/** Another process: its own service, which counts the statements that roll up. */
function createWorker() {
  let statements = 0;
  const rollup = new Proxy(api.deps.db.rollup, {
    get(target, property) {
      const value = Reflect.get(target, property);
      if (property !== "unsafe") return value;
      return (...given: Parameters<Sql["unsafe"]>) => {
        statements += 1;
        return Reflect.apply(value, target, given);
      };
    },
  });
  const db = { ...api.deps.db, rollup };
  const rollups = createRollupService({ ...api.deps, db });
  const retries = createRollupRetries({ ...api.deps, db, rollups });
  const counting = async <T>(work: () => Promise<T>) => {
    statements = 0;
    const result = await work();
    return { result, statements };
  };
  return {
    rollUp: async () => counting(async () => rollups.rollUp(await announced())),
    retry: () => counting(retries.retryDue),
  };
}

const due = ({ tenantId }: TestTenant) =>
  api.sql`update rollup_failures set retry_at = now() where tenant_id = ${tenantId}`;

async function failing({ tenantId }: TestTenant) {
  const [row] = await api.sql`
    select paused, failures, extract(epoch from retry_at - failed_at)::int as "waitSeconds"
    from rollup_failures where tenant_id = ${tenantId}`;
  return row;
}

async function counted({ tenantId }: TestTenant): Promise<number> {
  const [row] = await api.sql`
    select coalesce(sum(events), 0)::int as n from event_hourly_stats where tenant_id = ${tenantId}`;
  return row?.n;
}

async function countedOfAll(but: readonly TestTenant[]): Promise<number> {
  const [row] = await api.sql`
    select coalesce(sum(events), 0)::int as n from event_hourly_stats
    where tenant_id <> all(${but.map(({ tenantId }) => tenantId)}::uuid[])`;
  return row?.n;
}

function shopAt(index: number): TestTenant {
  const shop = shops[index];
  if (!shop) throw new Error("no such shop");
  return shop;
}

describe("one poisoned tenant among fifty", () => {
  test("the others are counted at once in every round, with one statement from the second on", async () => {
    const bad = shopAt(23);
    const worker = createWorker();
    // The control: what a round takes when nobody is poisoned.
    await ingestAll();
    expect(await worker.rollUp()).toEqual({ result: TENANTS, statements: 1 });
    await poison(bad);
    const before = await countedOfAll([bad]);
    await ingestAll();
    const first = await worker.rollUp();
    expect(first.result).toBe(TENANTS - 1);
    expect(first.statements).toBeLessThanOrEqual(MOST_TO_FIND_ONE);
    for (let round = 2; round <= 6; round += 1) {
      await ingestAll();
      // Another process each time, as after a restart.
      expect(await createWorker().rollUp()).toEqual({ result: TENANTS - 1, statements: 1 });
      expect((await countedOfAll([bad])) - before).toBe(round * (TENANTS - 1));
    }
    const answer = await api.call("GET", "/analytics/summary", { as: shopAt(0).key });
    expect(answer.body.meta.lagMs).toBe(0);
    const [health] = await Promise.all([api.call("GET", "/analytics/health", { as: shopAt(0).key })]);
    expect(health.body.lagMs).toBe(0);
  }, 60_000);

  test("it waits longer after each try, and a try touches nobody else", async () => {
    const bad = shopAt(7);
    await poison(bad);
    await ingestAll();
    const worker = createWorker();
    await worker.rollUp();
    const waits = [await failing(bad)];
    for (let n = 0; n < 11; n += 1) {
      // Not before its time, however many ask.
      expect(await worker.retry()).toEqual({ result: 0, statements: 0 });
      await due(bad);
      const tries = await Promise.all([worker.retry(), createWorker().retry()]);
      // One of the two has it.
      expect(tries.map(({ result }) => result)).toEqual([0, 0]);
      waits.push(await failing(bad));
      await ingest(bad);
    }
    expect(waits.map((row) => row?.waitSeconds)).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
    expect(waits.every((row) => row?.paused)).toBe(true);
  });

  test("all it sent is counted once the cause is mended, dead letters too", async () => {
    const bad = shopAt(49);
    await poison(bad);
    const had = await counted(bad);
    const worker = createWorker();
    for (let round = 0; round < 7; round += 1) {
      await ingest(bad);
      await worker.rollUp();
      await due(bad);
      await worker.retry();
    }
    const letters = await api.sql`select from event_batches where dead_lettered_at is not null`;
    expect(letters.length).toBeGreaterThan(0);
    expect(await counted(bad)).toBe(had);
    // By whatever means: nobody tells the workers.
    await api.sql`update tenants set time_zone = 'UTC' where id = ${bad.tenantId}`;
    await due(bad);
    expect((await worker.retry()).result).toBe(7);
    expect((await counted(bad)) - had).toBe(7);
    expect(await failing(bad)).toMatchObject({ paused: false, waitSeconds: null });
    // And is one of the others again.
    await ingest(bad);
    expect(await worker.rollUp()).toEqual({ result: 1, statements: 1 });
    const verified = await runFootfall(["verify", "--tenant", bad.slug], api.env);
    expect([verified.exitCode, verified.stdout]).toEqual([0, expect.stringContaining("clean")]);
  });
});

test("by the stream: one read of everybody's messages counts the others and acknowledges all", async () => {
  const bad = shopAt(30);
  await poison(bad);
  const { redis } = api.deps;
  const consumer = createRollupConsumer(api.deps, "test");
  const drain = () => eventually(async () => expect(await redis.xlen(EVENT_BATCHES.key)).toBe(0));
  consumer.start();
  await drain();
  const before = await countedOfAll([bad]);
  for (let round = 1; round <= 3; round += 1) {
    await ingestAll();
    await eventually(async () => expect((await countedOfAll([bad])) - before).toBe(round * (TENANTS - 1)));
  }
  await drain();
  await consumer.stop();
  const [pending] = await redis.xpending(EVENT_BATCHES.key, EVENT_BATCHES.group);
  expect(pending).toBe(0);
});

test("twenty-five poisoned among fifty: the others still have one statement from the second round on", async () => {
  const bad = shops.filter((_, index) => index % 2 === 0);
  for (const shop of bad) await poison(shop);
  await ingestAll();
  expect((await createWorker().rollUp()).result).toBe(TENANTS - bad.length);
  await ingestAll();
  expect(await createWorker().rollUp()).toEqual({ result: TENANTS - bad.length, statements: 1 });
});

describe("one poisonous batch of a tenant", () => {
  /** Units that no counter holds: the first batch is counted, and adding to it overflows. */
  async function poisonOne(shop: TestTenant): Promise<void> {
    await api.sql`update event_batches set received = 2147483647 where tenant_id = ${shop.tenantId}
      and batch_id = (select batch_id from event_batches where tenant_id = ${shop.tenantId}
        and rolled_up_at is null order by batch_id limit 1 offset 4)`;
    await api.sql`alter table ingest_hourly_stats add constraint poison check (received < 2147483647) not valid`;
  }

  test("is found, and the others of its tenant are counted with the next retry", async () => {
    const shop = shopAt(3);
    for (let n = 0; n < 9; n += 1) await ingest(shop);
    await poisonOne(shop);
    try {
      const worker = createWorker();
      expect((await worker.rollUp()).result).toBe(0);
      await due(shop);
      expect((await worker.retry()).result).toBe(8);
      expect(await failing(shop)).toMatchObject({ paused: false });
      // What comes now waits for nothing.
      await ingestAll();
      expect(await worker.rollUp()).toEqual({ result: TENANTS, statements: 1 });
      for (let tries = 1; tries < 5; tries += 1) {
        await due(shop);
        expect(await worker.retry()).toEqual({ result: 0, statements: 1 });
      }
      const dead = await api.sql`select attempts from event_batches where dead_lettered_at is not null`;
      expect([...dead]).toEqual([{ attempts: 5 }]);
      await due(shop);
      expect(await worker.retry()).toEqual({ result: 0, statements: 0 });
      expect(await failing(shop)).toMatchObject({ paused: false, waitSeconds: null });
    } finally {
      await api.sql`alter table ingest_hourly_stats drop constraint poison`;
      await api.sql`update event_batches set received = stored where received = 2147483647`;
    }
  });
});

test("a tenant of which all that failed is a dead letter is tried again soon after it sends more", async () => {
  const shop = shopAt(5);
  await ingest(shop);
  await poison(shop);
  const worker = createWorker();
  const dead = () =>
    api.sql`select from event_batches where tenant_id = ${shop.tenantId} and dead_lettered_at is not null`;
  await worker.rollUp();
  for (let tries = 1; tries <= 5; tries += 1) {
    await due(shop);
    await worker.retry();
  }
  expect(await dead()).toHaveLength(1);
  await due(shop);
  const [{ before } = {}] = await api.sql`select now() as before`;
  await worker.retry();
  const [row] = await api.sql`
    select paused, retry_at between ${before} and now() + interval '10 seconds' as soon
    from rollup_failures where tenant_id = ${shop.tenantId}`;
  expect(row).toEqual({ paused: true, soon: true });
  // After any repair the next batch shows it, and its retry takes the dead letters along.
  await api.sql`update tenants set time_zone = 'UTC' where id = ${shop.tenantId}`;
  await ingest(shop);
  await due(shop);
  expect((await worker.retry()).result).toBe(2);
  expect(await dead()).toHaveLength(0);
});

test("what a paused tenant piles up is out of the sweeper's sight", async () => {
  const bad = shopAt(11);
  await poison(bad);
  await ingest(bad);
  await createWorker().rollUp();
  for (let n = 0; n < 5; n += 1) await ingest(bad);
  await api.sql`update event_batches set received_at = received_at - interval '1 minute' where rolled_up_at is null`;
  await createSweeper(api.deps, "test").runOnce();
  const [row] = await api.sql`select count(*)::int as held from event_batches
    where tenant_id = ${bad.tenantId} and held and attempts = 0`;
  expect(row?.held).toBe(6);
  // Another process, which has seen none of this, gives it its next try.
  const other = createTestDeps(api.config);
  await api.sql`update tenants set time_zone = 'UTC' where id = ${bad.tenantId}`;
  await due(bad);
  expect(await other.rollupRetries.retryDue()).toBe(6);
});

describe("a tenant whose retries have just seen that nothing waits", () => {
  const held = ({ tenantId }: TestTenant) =>
    api.sql`select batch_id as id from event_batches where tenant_id = ${tenantId} and held and rolled_up_at is null`;

  test("is due again when the sweeper, which saw it paused, holds a batch after that", async () => {
    const shop = shopAt(12);
    await ingest(shop);
    await api.sql`update event_batches set received_at = received_at - interval '1 minute' where rolled_up_at is null`;
    await api.sql`insert into rollup_failures (tenant_id, paused, retry_at) values (${shop.tenantId}, true, now())`;
    let holding: Promise<number> | undefined;
    await api.sql.begin(async (tx) => {
      // The sweeper waits at the batch; meanwhile the pause ends and the retries find nothing that
      // is held.
      await tx`select from event_batches where tenant_id = ${shop.tenantId} and rolled_up_at is null for update`;
      holding = api.deps.rollups.holdPaused(0);
      await waitForLock();
      await tx`update rollup_failures set paused = false, retry_at = null where tenant_id = ${shop.tenantId}`;
    });
    expect(await holding).toBe(1);
    expect(await held(shop)).toHaveLength(1);
    expect(await api.deps.rollupRetries.retryDue()).toBe(1);
    expect(await held(shop)).toHaveLength(0);
  });

  test("stays due when a dead letter is given its tries again before the round ends", async () => {
    const shop = shopAt(13);
    await ingest(shop);
    const [batch] = await api.sql`
      update event_batches set held = true, dead_lettered_at = now()
      where tenant_id = ${shop.tenantId} and rolled_up_at is null returning batch_id as id`;
    await api.sql`insert into rollup_failures (tenant_id, retry_at) values (${shop.tenantId}, now())`;
    const admin = await createPerson(api, shop.tenantId, "admin");
    const path = `/queue/dead-letters/${batch?.id}/retry`;
    // After the last read of what waits, and before the end of the round is recorded.
    const retries = createRollupRetries({
      ...api.deps,
      db: {
        ...api.deps.db,
        rollup: beforeSuccess(api.deps.db.rollup, async () => {
          expect((await api.call("POST", path, { as: admin.token })).status).toBeLessThan(300);
        }),
      },
    });
    expect(await retries.retryDue()).toBe(0);
    expect(await api.deps.rollupRetries.retryDue()).toBe(1);
  });
});

/** Does `interfere` once, just before the statement that notes the end of a retry. */
function beforeSuccess(sql: Sql, interfere: () => Promise<void>): Sql {
  let done = false;
  return new Proxy(sql, {
    apply(target, self, given) {
      const [strings] = given as [readonly string[]];
      const isEnd = strings[0]?.includes("retry_at = case when paused");
      const run = () => Reflect.apply(target, self, given);
      if (!isEnd || done) return run();
      done = true;
      return interfere().then(run);
    },
  });
}

/** Waits until some session waits for the lock of another. */
async function waitForLock(): Promise<void> {
  await eventually(async () => {
    const [row] = await api.sql`
      select count(*)::int as n from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    expect(row?.n).toBeGreaterThan(0);
  });
}
