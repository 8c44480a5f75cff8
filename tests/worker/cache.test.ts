/**
 * G9: an answer that a rollup has outdated is never served after that rollup's tags are deleted.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { type CacheQuestion, createCache } from "../../src/cache/cache.ts";
import { createInvalidator } from "../../src/cache/invalidator.ts";
import { analyticsTagsOfDays, analyticsTagsOfInstants, deleteTags } from "../../src/cache/tags.ts";
import { dayInZone } from "../../src/core/days.ts";
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
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  // Nothing stale, so that every answer says whether it is the newest. tests/cache tests stale
  // ones.
  api = await createTestApi({ CACHE_STALE_MS: "0" });
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const TAGS = ["analytics:2026-10", "analytics:2026-11"];

function question(overrides: Partial<CacheQuestion> = {}): CacheQuestion {
  return {
    tenantId: tenant.tenantId,
    scope: "analytics",
    name: "question",
    tags: TAGS,
    ttlSeconds: 60,
    ...overrides,
  };
}

const newCache = () => createCache(api.deps.redis, createRedisGuard(), api.deps.metrics);
const outdate = (tag = TAGS[0] ?? "") => deleteTags(api.deps.redis, tenant.tenantId, [tag]);

describe("the cache", () => {
  test("computes once, and again only after one of its tags was deleted", async () => {
    const cache = newCache();
    let computed = 0;
    const ask = (overrides = {}) => cache.getOrCompute(question(overrides), async () => ++computed);
    expect(await ask()).toMatchObject({ value: 1, outcome: "miss" });
    expect(await ask()).toMatchObject({ value: 1, outcome: "hit" });
    await outdate("analytics:2026-09");
    expect(await ask()).toMatchObject({ value: 1, outcome: "hit" });
    for (const tag of TAGS) {
      await outdate(tag);
      expect((await ask()).outcome).toBe("miss");
      expect((await ask()).outcome).toBe("hit");
    }
    expect(await ask({ skipRead: true })).toMatchObject({ value: 4, outcome: "miss" });
    expect(await ask()).toMatchObject({ value: 4, outcome: "hit" });
    expect((await ask({ tenantId: crypto.randomUUID() })).value).toBe(5);
  });

  test("what was computed before a deletion is not served after it, however late it is stored", async () => {
    const { redis } = createTestDeps(api.config);
    await waitUntilReady(redis, 5_000);
    const [first, second] = [newCache(), createCache(redis, createRedisGuard(), api.deps.metrics)];
    const slow = Promise.withResolvers<string>();
    const entered = Promise.withResolvers<void>();
    const answered = first.getOrCompute(question(), () => {
      entered.resolve();
      return slow.promise;
    });
    // The old value was read from its snapshot. Then a rollup commits and deletes the tag. Then the
    // value is stored.
    await entered.promise;
    await outdate();
    slow.resolve("old");
    expect((await answered).value).toBe("old");
    expect(await second.getOrCompute(question(), async () => "new")).toMatchObject({
      value: "new",
      outcome: "miss",
    });
    expect(await first.getOrCompute(question(), async () => "unused")).toMatchObject({
      value: "new",
      outcome: "hit",
    });
  });

  test("and the same when the old value is stored after the new one", async () => {
    const cache = newCache();
    const slow = Promise.withResolvers<string>();
    const entered = Promise.withResolvers<void>();
    const answered = cache.getOrCompute(question(), () => {
      entered.resolve();
      return slow.promise;
    });
    await entered.promise;
    await outdate();
    expect((await cache.getOrCompute(question(), async () => "new")).value).toBe("new");
    slow.resolve("old");
    await answered;
    const { value, outcome } = await cache.getOrCompute(question(), async () => "newer");
    expect([value, outcome]).toEqual(["newer", "miss"]);
  });

  test("fifty at once share one computation, but not with those who ask after a deletion", async () => {
    const cache = newCache();
    const gates: ((value: string) => void)[] = [];
    const ask = () =>
      cache.getOrCompute(question(), () => new Promise<string>((resolve) => gates.push(resolve)));
    await cache.getOrCompute(question({ name: "another" }), async () => "its tags exist now");
    const before = Array.from({ length: 50 }, ask);
    // Answered after all that was sent before it: each of the fifty has read its generations.
    await api.deps.redis.ping();
    await outdate();
    const after = Array.from({ length: 50 }, ask);
    await eventually(() => expect(gates.length).toBe(2));
    gates[0]?.("old");
    gates[1]?.("new");
    expect(new Set((await Promise.all(before)).map((answer) => answer.value))).toEqual(new Set(["old"]));
    expect(new Set((await Promise.all(after)).map((answer) => answer.value))).toEqual(new Set(["new"]));
    expect(gates.length).toBe(2);
  });

  test("a failed computation is not remembered", async () => {
    const cache = newCache();
    const failing = cache.getOrCompute(question(), async () => {
      throw new Error("no");
    });
    expect(failing).rejects.toThrow("no");
    await failing.catch(() => {});
    expect((await cache.getOrCompute(question(), async () => 1)).value).toBe(1);
  });

  test("without Redis it computes every time, and never fails", async () => {
    const { redis } = createTestDeps({ ...api.config, redisUrl: "redis://127.0.0.1:1" });
    const cache = createCache(redis, createRedisGuard(), api.deps.metrics);
    for (const value of [1, 2])
      expect(await cache.getOrCompute(question(), async () => value)).toMatchObject({
        value,
        outcome: "miss",
      });
  });

  test("rubbish in place of an entry is computed and stored anew", async () => {
    const cache = newCache();
    for (const rubbish of ["{rubbish", "null", "[]", '{"generations":"x"}']) {
      await cache.getOrCompute(question(), async () => 1);
      await api.deps.redis.set(keys.cacheEntry(tenant.tenantId, `analytics:${question().name}`), rubbish);
      expect(await cache.getOrCompute(question(), async () => 2)).toMatchObject({
        value: 2,
        outcome: "miss",
      });
      await eventually(async () => (await cache.getOrCompute(question(), async () => 3)).outcome === "hit");
      await api.deps.redis.del(keys.cacheEntry(tenant.tenantId, `analytics:${question().name}`));
    }
  });
});

describe("the invalidator", () => {
  const range = (tenantId: string, month: number) => {
    const at = Date.UTC(2026, month, 15);
    return { tenantId, minMs: at, maxMs: at };
  };
  const generations = (tenantId: string) =>
    api.deps.redis.exists(...TAGS.map((tag) => `{${tenantId}}:tag:${tag}`));
  const make = async (tenantId: string) => {
    await newCache().getOrCompute(question({ tenantId }), async () => 1);
    expect(await generations(tenantId)).toBe(2);
  };

  test("owes what it could not delete, and pays when Redis is back", async () => {
    const { redis, metrics } = createTestDeps(api.config);
    await waitUntilReady(redis, 5_000);
    const invalidator = createInvalidator(redis, metrics);
    const other = await createTenant(api);
    await make(tenant.tenantId);
    await make(other.tenantId);
    redis.disconnect();
    await eventually(() => redis.status === "end");
    await invalidator.invalidate([range(tenant.tenantId, 9), range(other.tenantId, 9)]);
    await invalidator.invalidate([range(tenant.tenantId, 10)]);
    expect([await generations(tenant.tenantId), await generations(other.tenantId)]).toEqual([2, 2]);
    await redis.connect();
    // By itself: no other call may come to invalidate anything.
    await eventually(async () =>
      expect([await generations(tenant.tenantId), await generations(other.tenantId)]).toEqual([0, 1]),
    );
  });

  test("of two calls at once the one that succeeds does not strike out what the other still owes", async () => {
    const replies: { resolve(): void; reject(error: Error): void }[] = [];
    const unlinked: string[][] = [];
    const redis = {
      on() {},
      unlink(...keys: string[]) {
        unlinked.push(keys);
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        replies.push({ resolve, reject });
        return promise;
      },
    };
    const invalidator = createInvalidator(redis as never, api.deps.metrics);
    const first = invalidator.invalidate([range(tenant.tenantId, 9)]);
    const second = invalidator.invalidate([range(tenant.tenantId, 10)]);
    replies[1]?.reject(new Error("connection lost"));
    await second;
    replies[0]?.resolve();
    await first;
    const third = invalidator.invalidate([]);
    expect(unlinked[2]?.join()).toContain("analytics:2026-11");
    replies[2]?.resolve();
    await third;
  });

  test("covers the local days of every time zone", () => {
    const instant = Date.UTC(2026, 9, 31, 23, 30);
    for (const timeZone of Intl.supportedValuesOf("timeZone")) {
      const day = dayInZone(instant, timeZone);
      const [asked] = analyticsTagsOfDays(day, day);
      expect(analyticsTagsOfInstants(instant, instant)).toContain(asked ?? "");
    }
  });
});

describe("analytics", () => {
  const views = async (call: TestApi["call"]) => {
    const { body } = await call("GET", "/analytics/summary?days=2", { as: tenant.key });
    return { views: body.totals.views as number, cache: body.meta.cache as string };
  };
  const view = () => api.call("POST", "/events", { as: tenant.key, json: eventInput() });

  test("serve hits until a rollup changes the answer", async () => {
    await view();
    await rollUpAll(api);
    expect(await views(api.call)).toEqual({ views: 1, cache: "miss" });
    expect(await views(api.call)).toEqual({ views: 1, cache: "hit" });
    await view();
    expect(await views(api.call)).toEqual({ views: 1, cache: "hit" });
    await rollUpAll(api);
    expect(await views(api.call)).toEqual({ views: 2, cache: "miss" });
  });

  test("never go back behind a finished rollup, with readers of two processes asking all the time", async () => {
    const deps = createTestDeps(api.config);
    await waitUntilReady(deps.redis, 5_000);
    const app = createApp(deps, { ...api.config, version: "test" });
    const elsewhere: TestApi["call"] = async (method, path, request) => {
      const response = await app.request(path, {
        method,
        headers: { authorization: `Bearer ${request?.as}` },
      });
      return { status: response.status, headers: response.headers, body: await response.json() };
    };
    let finished = 0;
    let running = true;
    let reads = 0;
    const reader = async (call: TestApi["call"]) => {
      while (running) {
        const atLeast = finished;
        const { views: seen } = await views(call);
        expect(seen).toBeGreaterThanOrEqual(atLeast);
        reads += 1;
      }
    };
    const readers = [api.call, api.call, elsewhere, elsewhere].map(reader);
    for (let round = 1; round <= 60; round += 1) {
      await view();
      await rollUpAll(api);
      finished = round;
    }
    running = false;
    await Promise.all(readers);
    expect(reads).toBeGreaterThan(100);
    expect((await views(elsewhere)).views).toBe(60);
  });

  test("answer without Redis, and rightly", async () => {
    const deps = createTestDeps({ ...api.config, redisUrl: "redis://127.0.0.1:1" });
    const app = createApp(deps, { ...api.config, version: "test" });
    await view();
    await rollUpAll(api);
    const response = await app.request("/analytics/summary?days=2", {
      headers: { authorization: `Bearer ${tenant.key}` },
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ totals: { views: 1 }, meta: { cache: "miss" } });
    const event = await app.request("/events", {
      method: "POST",
      headers: { authorization: `Bearer ${tenant.key}`, "content-type": "application/json" },
      body: JSON.stringify(eventInput()),
    });
    expect(event.status).toBe(202);
    expect((await (await app.request("/health")).json()) as object).toMatchObject({ status: "degraded" });
    expect((await app.request("/ready")).status).toBe(200);
  });
});
