/**
 * How much of Redis cached answers take: one answer, one tenant, and questions that nobody asks
 * twice.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createEntryWriter } from "../../src/cache/budget.ts";
import { type CacheOptions, type CacheQuestion, createCache } from "../../src/cache/cache.ts";
import { analyticsTagsOfDays, analyticsTagsOfInstants } from "../../src/cache/tags.ts";
import { newId } from "../../src/core/ids.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { keys } from "../../src/redis/keys.ts";
import { createRedisGuard } from "../../src/resilience/redis-guard.ts";
import { createPerson, createTenant, createTestApi, createTestDeps, type TestApi } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenantId: string;

beforeAll(async () => {
  api = await createTestApi({ RATE_LIMIT_STANDARD: "off" });
});
beforeEach(async () => {
  await api.deps.redis.flushall();
  tenantId = newId();
});
afterAll(cleanup);

const KIB = 1024;
const TENANT_BYTES = 400 * KIB;
/** Half of a tenant's bytes. */
const ROOM = TENANT_BYTES / 2;

const newCache = (bounds: CacheOptions["bounds"] = {}, redis = api.deps.redis) =>
  createCache(redis, createRedisGuard(), api.deps.metrics, {
    bounds: { tenantBytes: TENANT_BYTES, ...bounds },
  });
const question = (overrides: Partial<CacheQuestion> = {}): CacheQuestion => ({
  tenantId,
  scope: "analytics",
  name: "question",
  tags: ["one"],
  ttlSeconds: 600,
  toleratesStale: true,
  ...overrides,
});
const ofBytes = (bytes: number) => async () => "x".repeat(bytes);

/**
 * Keys of entries, and their size together as Redis sees it. Commands of one connection keep their
 * order.
 */
async function stored(of = tenantId) {
  const names = await api.deps.redis.keys(`${keys.cacheEntry(of, "")}*`);
  const sizes = await Promise.all(names.map((name) => api.deps.redis.strlen(name)));
  return { names, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}
const usedMemory = async () =>
  Number(/used_memory:(\d+)/.exec(await api.deps.redis.info("memory"))?.[1] ?? Number.NaN);

describe("one answer", () => {
  test("that is too large is computed each time and stored nowhere", async () => {
    const cache = newCache({ entryBytes: 10 * KIB });
    const ask = async (name: string, bytes: number) =>
      (await cache.getOrCompute(question({ name }), ofBytes(bytes))).outcome;
    expect([await ask("large", 10 * KIB), await ask("large", 10 * KIB)]).toEqual(["miss", "miss"]);
    expect([await ask("small", 9 * KIB), await ask("small", 9 * KIB)]).toEqual(["miss", "hit"]);
    expect((await stored()).names).toEqual([keys.cacheEntry(tenantId, "analytics:small")]);
  });

  test("is kept beyond its freshness only where it may be served stale", async () => {
    const cache = newCache();
    await cache.getOrCompute(question({ name: "stale", ttlSeconds: 30 }), ofBytes(10));
    const strict = { name: "strict", scope: "orders", ttlSeconds: 30, toleratesStale: false } as const;
    await cache.getOrCompute(question(strict), ofBytes(10));
    const ttlOf = (name: string) => api.deps.redis.ttl(keys.cacheEntry(tenantId, name));
    expect(await ttlOf("analytics:stale")).toBeGreaterThan(3_600);
    const ttl = await ttlOf("orders:strict");
    expect(ttl).toBeGreaterThan(0);
    expect(ttl).toBeLessThanOrEqual(40);
  });
});

describe("a tenant's answers", () => {
  test("take no more than their room, whoever stores them, and cost no other tenant or scope theirs", async () => {
    const { redis } = createTestDeps(api.config);
    await waitUntilReady(redis, 5_000);
    const caches = [newCache(), newCache({}, redis)];
    await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        caches[n % 2]?.getOrCompute(question({ name: `flood ${n}` }), ofBytes(5 * KIB)),
      ),
    );
    await redis.ping();
    const { names, bytes } = await stored();
    expect(bytes).toBeLessThanOrEqual(ROOM);
    // Not far below either: each takes some bytes beside its text.
    expect(names.length).toBeGreaterThanOrEqual(35);
    for (const overrides of [{ scope: "products" }, { tenantId: newId() }] as const) {
      const ask = () => caches[0]?.getOrCompute(question(overrides), ofBytes(5 * KIB));
      await ask();
      expect((await ask())?.outcome).toBe("hit");
    }
  });

  test("that are stored again take the place of the ones before", async () => {
    const cache = newCache();
    for (let times = 0; times < 100; times += 1) {
      await cache.getOrCompute(question({ skipRead: true }), ofBytes(50 * KIB));
      await cache.getOrCompute(question({ name: "other", skipRead: true }), ofBytes(50 * KIB));
    }
    for (const name of ["question", "other"])
      expect((await cache.getOrCompute(question({ name }), ofBytes(1))).outcome).toBe("hit");
    const counted = await api.deps.redis.hgetall(keys.cacheBytes(tenantId, "analytics"));
    const { bytes } = await stored();
    expect(Number(counted.used)).toBeGreaterThan(bytes);
    expect(Number(counted.used)).toBeLessThan(bytes + 2 * KIB);
  });

  test("beyond half of their room are not kept for stale", async () => {
    const cache = newCache();
    for (const name of ["1", "2", "3"]) await cache.getOrCompute(question({ name }), ofBytes(60 * KIB));
    const ttls = ["1", "2", "3"].map((name) =>
      api.deps.redis.ttl(keys.cacheEntry(tenantId, `analytics:${name}`)),
    );
    const [first = 0, second = 0, third = 0] = await Promise.all(ttls);
    expect(first).toBeGreaterThan(3_600);
    expect(second).toBeLessThanOrEqual(610);
    expect(third).toBeLessThanOrEqual(610);
  });

  test("leave their room when they expire, without anybody looking for them", async () => {
    const writer = createEntryWriter(api.deps.redis, () => 10 * KIB, 1);
    const write = (name: string, seconds: number) =>
      writer.write(
        { tenantId, scope: "orders", entryKey: keys.cacheEntry(tenantId, name) },
        "x".repeat(6 * KIB),
        { freshSeconds: seconds, keepSeconds: seconds },
      );
    expect(await Promise.all([write("first", 1), write("second", 1)])).toEqual([true, false]);
    await eventually(async () => expect(await write("second", 600)).toBe(true));
    expect((await stored()).names).toEqual([keys.cacheEntry(tenantId, "second")]);
    expect(await write("third", 1)).toBe(false);
  });

  test("are counted anew where the clock of Redis has gone back", async () => {
    const key = keys.cacheBytes(tenantId, "analytics");
    const ahead = Math.floor(Date.now() / 10_000) + 100;
    await api.deps.redis.hset(key, { used: ROOM, swept: ahead, [ahead + 10]: ROOM });
    const cache = newCache();
    await cache.getOrCompute(question(), ofBytes(KIB));
    expect((await cache.getOrCompute(question(), ofBytes(KIB))).outcome).toBe("hit");
  });

  test("hang on few tags, however many thousand years are asked for", () => {
    const asked = new Set<string>();
    for (let year = 1900; year < 9000; year += 3)
      for (const tag of analyticsTagsOfDays(`${year}-01-01`, `${year + 2}-12-31`)) asked.add(tag);
    expect(asked.size).toBeLessThan(1_400);
    const instant = Date.parse("2150-05-05T00:00:00Z");
    expect(analyticsTagsOfInstants(instant, instant)).toEqual(["analytics:far"]);
    expect(analyticsTagsOfDays("2099-12-30", "2100-01-02")).toEqual(["analytics:2099-12", "analytics:far"]);
  });
});

describe("lists with a free filter", () => {
  const MANY = 60;

  /** A hundred orders of a hundred lines: a list of them is half a megabyte. */
  async function createOrders(of: string, userId: string): Promise<void> {
    await api.sql`
      insert into orders (tenant_id, id, group_id, user_id, customer_name, customer_email, status, created_at, updated_at)
      select ${of}, gen_random_uuid(), 'g', ${userId}, 'Ada', 'ada@example.com', 'queued', now(), now()
      from generate_series(1, 100)`;
    await api.sql`
      insert into order_items (tenant_id, order_id, line, product_id, quantity)
      select tenant_id, id, line, repeat('p', 100), 1 from orders cross join generate_series(1, 100) line
      where tenant_id = ${of}`;
  }

  test("are not cached: a customer who asks for ever new pages of orders does not fill Redis", async () => {
    const tenant = await createTenant(api);
    const { token, userId } = await createPerson(api, tenant.tenantId, "customer");
    await createOrders(tenant.tenantId, userId);
    const before = await usedMemory();
    let bytes = 0;
    for (let n = 0; n < MANY; n += 1) {
      const from = new Date(Date.UTC(2020, 0, 1) + n).toISOString();
      const { status, body } = await api.call("GET", `/orders?limit=100&from=${from}`, { as: token });
      expect([status, body.items.length]).toEqual([200, 100]);
      bytes += JSON.stringify(body).length;
    }
    const { body: first } = await api.call("GET", "/orders?limit=10", { as: token });
    await api.call("GET", `/orders?limit=10&cursor=${first.nextCursor}`, { as: token });
    const { names } = await stored(tenant.tenantId);
    const grown = (await usedMemory()) - before;
    console.log(`${MANY} lists, ${Math.round(bytes / 1e6)} MB; Redis grew by ${Math.round(grown / 1024)} KB`);
    expect(bytes).toBeGreaterThan(30e6);
    expect(names).toHaveLength(1);
    expect(grown).toBeLessThan(2e6);
  }, 60_000);

  test("are not cached in the table of products either", async () => {
    const tenant = await createTenant(api);
    const read = async (query: string) =>
      (await api.call("GET", `/analytics/products/stats?${query}`, { as: tenant.key })).body.meta.cache;
    for (const query of ["search=a", "page=2"])
      expect([await read(query), await read(query)]).toEqual(["miss", "miss"]);
    expect([await read(""), await read("")]).toEqual(["miss", "hit"]);
    expect((await stored(tenant.tenantId)).names).toHaveLength(1);
  });
});
