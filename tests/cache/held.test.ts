/**
 * What a process holds of the cache saves the transfer from Redis and nothing else: the next
 * question sees whatever another process, or Redis, has done with an entry or its tags. Also how a
 * held answer is sent.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { type CacheOptions, type CacheQuestion, createCache } from "../../src/cache/cache.ts";
import { clearingTag, deleteTags } from "../../src/cache/tags.ts";
import { newId } from "../../src/core/ids.ts";
import { startApi } from "../../src/main.ts";
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
import { cleanup, eventually, freePort, onCleanup } from "../harness.ts";

let api: TestApi;
let elsewhere: TestApi["deps"];
let tenantId: string;

beforeAll(async () => {
  api = await createTestApi({ CACHE_STALE_MS: "0" });
  elsewhere = createTestDeps(api.config);
  await waitUntilReady(elsewhere.redis, 5_000);
});
beforeEach(() => {
  tenantId = newId();
});
afterAll(cleanup);

const question = (overrides: Partial<CacheQuestion> = {}): CacheQuestion => ({
  tenantId,
  scope: "analytics",
  name: "question",
  tags: ["one", "two"],
  ttlSeconds: 60,
  ...overrides,
});
const newCache = (redis = api.deps.redis, bounds: CacheOptions["bounds"] = {}) =>
  createCache(redis, createRedisGuard(), api.deps.metrics, { bounds });
const entryKey = () => keys.cacheEntry(tenantId, "analytics:question");

/** Two processes, of which the first holds an answer that is a hit. */
async function holding(overrides: Partial<CacheQuestion> = {}) {
  const [here, there] = [newCache(), newCache(elsewhere.redis)];
  let computed = 0;
  const askBy =
    (cache: typeof here) =>
    async (more: Partial<CacheQuestion> = {}) => {
      const { value, outcome } = await cache.getOrCompute(
        question({ ...overrides, ...more }),
        async () => ++computed,
      );
      return [value, outcome];
    };
  const processes = { here: askBy(here), there: askBy(there) };
  expect(await processes.here()).toEqual([1, "miss"]);
  expect(await processes.here()).toEqual([1, "hit"]);
  return processes;
}

describe("an answer that a process holds is no hit there after another one has", () => {
  test.each(["one", "two", clearingTag("analytics"), clearingTag("everything")])(
    "deleted the tag %s",
    async (tag) => {
      const { here, there } = await holding();
      await deleteTags(elsewhere.redis, tenantId, [tag]);
      expect(await here()).toEqual([2, "miss"]);
      expect(await there()).toEqual([2, "hit"]);
    },
  );

  test("wiped Redis", async () => {
    const { here } = await holding();
    await elsewhere.redis.flushall();
    expect(await here()).toEqual([2, "miss"]);
  });

  test("deleted the entry, or put something else in its place", async () => {
    const { here } = await holding();
    await elsewhere.redis.del(entryKey());
    expect(await here()).toEqual([2, "miss"]);
    await elsewhere.redis.set(entryKey(), "rubbish");
    expect(await here()).toEqual([3, "miss"]);
  });

  test("computed it anew under the same tags: then it is that one", async () => {
    const { here, there } = await holding();
    expect(await there({ skipRead: true })).toEqual([2, "miss"]);
    await eventually(async () => expect(await here()).toEqual([2, "hit"]));
  });
});

test("an answer that a process holds lives no longer than its TTL", async () => {
  const { here } = await holding({ ttlSeconds: 1 });
  await eventually(async () => expect(await here()).toEqual([2, "miss"]));
});

test("while Redis is away nothing that is held is served as a hit", async () => {
  const { redis } = createTestDeps(api.config);
  await waitUntilReady(redis, 5_000);
  const cache = newCache(redis);
  await cache.getOrCompute(question(), async () => 1);
  redis.disconnect();
  await eventually(() => redis.status === "end");
  expect(await cache.getOrCompute(question(), async () => 2)).toMatchObject({ value: 2, outcome: "miss" });
});

test("more than it may hold pushes out what was asked for longest ago, and every answer stays right", async () => {
  const heldBytes = 100_000;
  const cache = newCache(api.deps.redis, { heldBytes });
  /** 10 KB of two bytes and more each: at most one or two are held. */
  const textOf = (n: number) => `${n}`.padEnd(2_000, "€");
  const transferred = async (work: () => Promise<void>) => {
    const sent = async () =>
      Number(/total_net_output_bytes:(\d+)/.exec(await api.deps.redis.info("stats"))?.[1] ?? 0);
    const before = await sent();
    await work();
    return (await sent()) - before;
  };
  const ask = async (n: number, outcome: string) => {
    const answer = await cache.getOrCompute(question({ name: `n${n}` }), async () => textOf(n));
    expect([answer.value, answer.outcome as string]).toEqual([textOf(n), outcome]);
  };
  for (let n = 0; n < 30; n += 1) await ask(n, "miss");
  // The last one is still here: its text does not travel. The first one is not: it does.
  const [last, first] = [await transferred(() => ask(29, "hit")), await transferred(() => ask(0, "hit"))];
  expect(first - last).toBeGreaterThan(5_000);
  for (let n = 0; n < 30; n += 1) await ask(n, "hit");
  // Larger than all that may be held: never here, and right.
  const huge = "x".repeat(heldBytes);
  for (const outcome of ["miss", "hit", "hit"] as const)
    expect(await cache.getOrCompute(question({ name: "huge" }), async () => huge)).toMatchObject({
      value: huge,
      outcome,
    });
});

test("an entry of an older program is computed and stored anew", async () => {
  const { here } = await holding();
  const generations = await api.deps.redis.mget(
    [clearingTag("everything"), clearingTag("analytics"), "one", "two"].map((tag) =>
      keys.cacheTag(tenantId, tag),
    ),
  );
  const old = { generations, value: "old", madeAtMs: Date.now(), freshUntilMs: Date.now() + 60_000 };
  await api.deps.redis.set(entryKey(), JSON.stringify(old));
  expect(await here()).toEqual([2, "miss"]);
});

describe("answers over HTTP", () => {
  let tenant: TestTenant;
  let apps: TestApi["app"][];

  beforeAll(async () => {
    tenant = await createTenant(api);
    apps = [api.app, createApp(elsewhere, { ...api.config, version: "test" })];
    for (const productId of ["p1", "p2", "ü€"])
      await api.call("POST", "/events", { as: tenant.key, json: eventInput({ productId }) });
    await rollUpAll(api);
  });

  const read = async (path: string, headers = {}, app = apps[0] as TestApi["app"]) => {
    const response = await app.request(path, {
      headers: { authorization: `Bearer ${tenant.key}`, ...headers },
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const withoutMeta = (text: string) => text.replace(/,"meta":\{[^{}]*\}\}$/, "}");

  test.each([
    "/analytics/summary?days=400&groupBy=day",
    "/analytics/summary?days=3&compare=previous",
    "/analytics/products/top?days=3",
    "/analytics/products/stats?days=3&limit=2",
    "/analytics/products/stats?days=3&limit=2&sortBy=name&page=1",
    "/analytics/products/p1/timeseries?days=400",
    "/analytics/breakdown?property=country&days=3",
    "/analytics/funnel?steps=view,purchase&days=3",
    "/analytics/retention",
    "/analytics/users/u1/summary",
  ])("%s: a hit is the miss but for its meta, here and elsewhere, and its ETag is good", async (path) => {
    const miss = await read(path);
    const hits = [await read(path), await read(path, {}, apps[1])];
    expect(JSON.parse(miss.text).meta.cache).toBe("miss");
    for (const hit of hits) {
      expect(withoutMeta(hit.text)).toBe(withoutMeta(miss.text));
      expect(JSON.parse(hit.text).meta).toEqual({ ...JSON.parse(miss.text).meta, cache: "hit" });
      expect(hit.headers.get("content-type")).toBe("application/json");
      expect(hit.headers.get("etag")).toMatch(/^"[\w-]+"$/);
      expect(hit.headers.get("etag")).toBe(hits[0]?.headers.get("etag") as string);
      expect(hit.headers.get("etag")).not.toBe(miss.headers.get("etag"));
    }
    for (const app of apps) {
      const again = await read(path, { "if-none-match": hits[0]?.headers.get("etag") }, app);
      expect([again.status, again.text]).toEqual([304, ""]);
      const other = await read(path, { "if-none-match": miss.headers.get("etag") }, app);
      expect([other.status, other.text]).toEqual([200, hits[0]?.text as string]);
    }
  });

  test("a long answer leaves a socket whole and with its length, and so does a short one", async () => {
    const running = await startApi({ ...api.config, port: await freePort() }, elsewhere);
    onCleanup(() => running.stop());
    for (const path of ["/analytics/summary?days=400&groupBy=day", "/analytics/products/top?days=3"]) {
      const headers = { authorization: `Bearer ${tenant.key}` };
      const response = await fetch(running.url + path, { headers });
      const bytes = await response.arrayBuffer();
      expect(response.headers.get("content-length")).toBe(`${bytes.byteLength}`);
      expect(new TextDecoder().decode(bytes)).toBe((await read(path)).text);
      const etag = response.headers.get("etag") ?? "";
      const again = await fetch(running.url + path, { headers: { ...headers, "if-none-match": etag } });
      expect([again.status, await again.text()]).toEqual([304, ""]);
    }
  });

  test("the same page of the table under another range text has a cursor of its own", async () => {
    const today = new Date().toISOString().slice(0, 10);
    const ranges = ["days=1", `startDate=${today}&endDate=${today}`];
    for (const range of ranges) {
      const page = JSON.parse((await read(`/analytics/products/stats?${range}&limit=1`)).text);
      const next = await read(`/analytics/products/stats?${range}&limit=1&cursor=${page.nextCursor}`);
      expect(next.status).toBe(200);
      expect(JSON.parse(next.text).items.length).toBe(1);
    }
  });

  test("POST /analytics/query is answered from the cache, without ETag", async () => {
    const ask = () =>
      api.call("POST", "/analytics/query", {
        as: tenant.key,
        json: { metrics: ["views"], dimensions: ["product"], days: 3 },
      });
    const [miss, hit] = [await ask(), await ask()];
    expect([miss.body.meta.cache, hit.body.meta.cache]).toEqual(["miss", "hit"]);
    expect(hit.body.rows).toEqual(miss.body.rows);
    expect(hit.headers.get("etag")).toBeNull();
  });
});
