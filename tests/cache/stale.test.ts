/** What is served although a rollup has outdated it: when, for how long, and with which note. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type CacheQuestion, createCache, type StaleTolerance } from "../../src/cache/cache.ts";
import { encodeEntry, makeEntry, parseEntry } from "../../src/cache/entry.ts";
import { clearingTag, deleteTags } from "../../src/cache/tags.ts";
import { AppError } from "../../src/core/errors.ts";
import { newId } from "../../src/core/ids.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { keys } from "../../src/redis/keys.ts";
import { createRedisGuard } from "../../src/resilience/redis-guard.ts";
import {
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  rollUpAll,
  type TestApi,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenantId: string;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(() => {
  tenantId = newId();
});
afterAll(cleanup);

const question = (overrides: Partial<CacheQuestion> = {}): CacheQuestion => ({
  tenantId,
  scope: "analytics",
  name: "question",
  tags: ["one"],
  ttlSeconds: 60,
  toleratesStale: true,
  ...overrides,
});
const newCache = (tolerance: StaleTolerance = { staleMs: 60_000, restMs: 0 }, redis = api.deps.redis) =>
  createCache(redis, createRedisGuard(), api.deps.metrics, { tolerance: () => tolerance });
const outdate = (tag = "one") => deleteTags(api.deps.redis, tenantId, [tag]);

describe("an outdated answer", () => {
  test("is served as stale while the fresh one is computed behind it, and once only", async () => {
    const cache = newCache();
    let computed = 0;
    const ask = (overrides = {}) => cache.getOrCompute(question(overrides), async () => ++computed);
    expect(await ask()).toMatchObject({ value: 1, outcome: "miss" });
    await outdate();
    expect(await ask()).toMatchObject({ value: 1, outcome: "stale", reason: "revalidating" });
    await eventually(async () => expect(await ask()).toMatchObject({ value: 2, outcome: "hit" }));
    expect(computed).toBe(2);
  });

  test("is not served where the question does not tolerate it, or is too old, or skips the cache", async () => {
    let computed = 0;
    const ask = (cache: ReturnType<typeof newCache>, overrides = {}) =>
      cache.getOrCompute(question(overrides), async () => ++computed);
    await ask(newCache());
    await outdate();
    expect((await ask(newCache(), { toleratesStale: false })).outcome).toBe("miss");
    await outdate();
    expect((await ask(newCache({ staleMs: 0, restMs: 0 }))).outcome).toBe("miss");
    await outdate();
    expect(await ask(newCache(), { skipRead: true })).toMatchObject({ value: 4, outcome: "miss" });
  });

  test("rests under load: what is young enough is not even computed", async () => {
    const cache = newCache({ staleMs: 60_000, restMs: 60_000 });
    let computed = 0;
    const ask = () => cache.getOrCompute(question(), async () => ++computed);
    await ask();
    await outdate();
    for (let times = 0; times < 20; times += 1) expect((await ask()).outcome).toBe("stale");
    expect(computed).toBe(1);
  });

  test("is served while none can be computed, but not to who tolerates nothing, and not for a wrong question", async () => {
    const cache = newCache({ staleMs: 0, restMs: 0 });
    const ask = (error: Error | null, toleratesStale = true) =>
      cache.getOrCompute(question({ toleratesStale }), async () => {
        if (error) throw error;
        return "good";
      });
    await ask(null);
    await outdate();
    const away = Object.assign(new Error("gone"), { code: "ECONNREFUSED" });
    expect(await ask(away)).toMatchObject({ value: "good", outcome: "stale", reason: "unavailable" });
    const busy = new AppError("overloaded", "too much");
    expect(await ask(busy)).toMatchObject({ value: "good", outcome: "stale", reason: "overloaded" });
    expect(ask(away, false)).rejects.toThrow("gone");
    expect(ask(busy, false)).rejects.toThrow("too much");
    expect(ask(new AppError("invalid_input", "no"))).rejects.toThrow("no");
    expect(ask(new Error("a defect"))).rejects.toThrow("a defect");
  });

  test("is never served to who tolerates nothing, even when it was made by a clock ahead of ours", async () => {
    const cache = newCache({ staleMs: 0, restMs: 0 });
    const ask = (value: string) => cache.getOrCompute(question({ toleratesStale: false }), async () => value);
    await ask("old");
    const key = keys.cacheEntry(tenantId, "analytics:question");
    const entry = await eventually(async () => parseEntry((await api.deps.redis.get(key)) ?? ""));
    const ahead = makeEntry({ ...entry, madeAtMs: Date.now() + 60_000 }, entry.content);
    await api.deps.redis.set(key, encodeEntry(ahead));
    await outdate();
    expect(await ask("new")).toMatchObject({ value: "new", outcome: "miss" });
  });

  test("is gone for good when the cache is cleared, of its scope or of everything", async () => {
    const cache = newCache();
    let computed = 0;
    for (const scope of ["analytics", "everything"] as const) {
      await cache.getOrCompute(question(), async () => ++computed);
      await outdate(clearingTag(scope));
      expect((await cache.getOrCompute(question(), async () => ++computed)).outcome).toBe("miss");
      expect(await cache.peek(question({ name: "never asked" }))).toBeNull();
    }
    await outdate(clearingTag("products"));
    expect((await cache.getOrCompute(question(), async () => ++computed)).outcome).toBe("hit");
  });

  test("is what peek finds while it is young enough, and however old once nothing can be computed", async () => {
    const peek = (staleMs: number, failure?: "unavailable") =>
      newCache({ staleMs, restMs: 0 }).peek<string>(question(), failure);
    await newCache().getOrCompute(question(), async () => "value");
    expect(await peek(0)).toMatchObject({ value: "value", outcome: "hit" });
    await outdate();
    expect(await peek(60_000)).toMatchObject({ value: "value", outcome: "stale", reason: "overloaded" });
    expect(await peek(0)).toBeNull();
    expect(await peek(0, "unavailable")).toMatchObject({
      value: "value",
      outcome: "stale",
      reason: "unavailable",
    });
  });
});

describe("of two processes that miss the same entry", () => {
  test("one computes and the other takes its answer", async () => {
    const { redis } = createTestDeps(api.config);
    await waitUntilReady(redis, 5_000);
    const gate = Promise.withResolvers<void>();
    let computed = 0;
    const compute = async () => {
      computed += 1;
      await gate.promise;
      return "once";
    };
    const first = newCache().getOrCompute(question(), compute);
    await eventually(() => expect(computed).toBe(1));
    const second = newCache(undefined, redis).getOrCompute(question(), compute);
    setTimeout(gate.resolve, 50);
    expect(await Promise.all([first, second])).toMatchObject([
      { value: "once", outcome: "miss" },
      { value: "once", outcome: "hit" },
    ]);
    expect(computed).toBe(1);
  });

  test("the other does not wait for ever", async () => {
    const { redis } = createTestDeps(api.config);
    await waitUntilReady(redis, 5_000);
    const never = new Promise<string>(() => {});
    let started = false;
    void newCache().getOrCompute(question(), () => {
      started = true;
      return never;
    });
    await eventually(() => started);
    const { value } = await newCache(undefined, redis).getOrCompute(question(), async () => "mine");
    expect(value).toBe("mine");
  });
});

describe("analytics", () => {
  test("say what is stale, how far behind it is, and never call it a hit", async () => {
    const tenant = await createTenant(api);
    const read = async (query = "") =>
      (await api.call("GET", `/analytics/summary?days=2${query}`, { as: tenant.key })).body;
    await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
    await rollUpAll(api);
    expect((await read()).totals.views).toBe(1);
    await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
    await rollUpAll(api);
    const { totals, meta } = await read();
    expect([totals.views, meta.cache, meta.reason]).toEqual([1, "stale", "revalidating"]);
    expect(meta.lagMs).toBeGreaterThan(0);
    await eventually(async () => expect((await read()).totals.views).toBe(2));
    expect((await read("&skipCache=true")).meta.cache).toBe("miss");
  });
});

test("a comparison with a stale half is as far behind as that half", async () => {
  const tenant = await createTenant(api);
  const path = "/analytics/summary?startDate=2026-10-16&endDate=2026-10-30&compare=previous";
  const read = async () => (await api.call("GET", path, { as: tenant.key })).body.meta;
  expect(await read()).toMatchObject({ cache: "miss", lagMs: 0 });
  // Of the two ranges, only the earlier one begins so early that it depends on September, too.
  await deleteTags(api.deps.redis, tenant.tenantId, ["analytics:2026-09"]);
  const { cache, lagMs } = await read();
  expect(cache).toBe("stale");
  expect(lagMs).toBeGreaterThan(0);
});

describe("the cache of a tenant", () => {
  test("is counted, listed and cleared by its admin, and by nobody else", async () => {
    const [tenant, other] = [await createTenant(api), await createTenant(api)];
    const ask = (method: string, path: string, as = tenant.key) => api.call(method, path, { as });
    for (let times = 0; times < 4; times += 1) await ask("GET", "/analytics/summary?days=3");
    for (const path of ["/cache/stats", "/analytics/cache/stats"])
      expect((await ask("GET", path)).body).toEqual({ hits: 3, misses: 1, stale: 0, hitRate: 0.75 });
    expect((await ask("GET", "/cache/stats", other.key)).body).toMatchObject({ hits: 0, hitRate: null });

    const { body: page } = await ask("GET", "/cache/keys?prefix=analytics:summary");
    expect(page.items).toEqual([
      { key: expect.stringMatching(/^analytics:summary:/), ttlSeconds: expect.any(Number) },
    ]);
    expect((await ask("GET", "/cache/keys?prefix=*")).body.items).toEqual([]);
    expect((await ask("GET", "/cache/keys", other.key)).body.items).toEqual([]);

    expect((await ask("POST", "/analytics/cache/clear", other.key)).status).toBe(204);
    expect((await ask("GET", "/analytics/summary?days=3")).body.meta.cache).toBe("hit");
    for (const [method, path] of [
      ["POST", "/analytics/cache/clear"],
      ["DELETE", "/cache/clear"],
    ] as const) {
      expect((await ask(method, path)).status).toBe(204);
      expect((await ask("GET", "/analytics/summary?days=3")).body.meta.cache).toBe("miss");
    }
    const { body: log } = await ask("GET", "/audit?limit=2");
    expect(log.items.map((entry: { action: string }) => entry.action)).toEqual([
      "cache.cleared",
      "cache.cleared",
    ]);
  });
});
