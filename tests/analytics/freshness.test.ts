/** Every event that changes a cached answer invalidates it, also events outside of its range. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { clearingTag } from "../../src/cache/tags.ts";
import { changeTimeZone, rebuildTenant } from "../../src/features/rollups/index.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import {
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

const at = (day: string) => `${day}T12:00:00Z`;

beforeAll(async () => {
  // Nothing stale; tests/cache tests what is served a moment longer, as `stale`.
  api = await createTestApi({ CACHE_STALE_MS: "0" });
});
afterAll(cleanup);

async function send(...events: Record<string, unknown>[]): Promise<void> {
  const { status } = await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  expect(status).toBe(202);
  await rollUpAll(api);
}

const RANGE = "startDate=2026-03-02&endDate=2026-03-29";
const CASES: [string, string, string, (body: Answer) => unknown, unknown, unknown][] = [
  [
    "a step months after the range",
    `/analytics/funnel?steps=view,purchase&windowHours=720&${RANGE}`,
    "2026-04-20",
    (body) => body.steps[1].users,
    0,
    1,
  ],
  [
    "a first visit long before the range",
    `/analytics/retention?period=week&${RANGE}`,
    "2025-07-01",
    (body) => body.cohorts.map(({ users }: Answer) => users),
    [0, 0, 0, 1],
    [0, 0, 0, 0],
  ],
  [
    "an event of the period before",
    `/analytics/summary?compare=previous&${RANGE}`,
    "2026-02-10",
    (body) => body.previous.totals.events,
    0,
    1,
  ],
  [
    "an event of the range, in the table",
    `/analytics/products/stats?${RANGE}`,
    "2026-03-05",
    (body) => body.items.map(({ events }: Answer) => events),
    [1],
    [2],
  ],
  [
    "an event of the range, in the pages",
    `/analytics/summary/paginated?groupBy=month&${RANGE}`,
    "2026-03-05",
    (body) => body.items[0].events,
    1,
    2,
  ],
  [
    "an event of the range, in a breakdown",
    `/analytics/breakdown?property=country&${RANGE}`,
    "2026-03-05",
    (body) => body.items.length,
    0,
    1,
  ],
];

// biome-ignore lint/suspicious/noExplicitAny: whatever the answer holds
type Answer = any;

test.each(CASES)("%s", async (_, path, day, read, before, after) => {
  tenant = await createTenant(api);
  const ask = async () => (await api.call("GET", path, { as: tenant.key })).body;
  await send(eventInput({ timestamp: at("2026-03-28") }));
  expect(read(await ask())).toEqual(before);
  const again = await ask();
  expect(again.meta.cache).toBe("hit");
  expect(read(again)).toEqual(before);
  await send(eventInput({ type: "purchase", timestamp: at(day), properties: { country: "DE", price: 1 } }));
  const fresh = await ask();
  expect(fresh.meta.cache).toBe("miss");
  expect(read(fresh)).toEqual(after);
});

test("a question by POST is cached by all that it says", async () => {
  tenant = await createTenant(api);
  await send(eventInput({ timestamp: at("2026-03-05") }));
  const ask = async (metrics: string[], days = {}) => {
    const json = { metrics, startDate: "2026-03-01", endDate: "2026-03-31", ...days };
    return (await api.call("POST", "/analytics/query", { as: tenant.key, json })).body;
  };
  expect((await ask(["views"])).meta.cache).toBe("miss");
  expect((await ask(["views"])).meta.cache).toBe("hit");
  expect((await ask(["clicks"])).meta.cache).toBe("miss");
  expect((await ask(["views"], { endDate: "2026-03-30" })).meta.cache).toBe("miss");
  expect((await ask(["views"], { skipCache: true })).meta.cache).toBe("miss");
  await send(eventInput({ timestamp: at("2026-03-06") }));
  expect(await ask(["views"])).toMatchObject({ rows: [{ views: 2 }], meta: { cache: "miss" } });
});

test("a process that remembers the time zone from before a change leaves no wrong answer to the others", async () => {
  const { key, tenantId } = await createTenant(api);
  const event = eventInput({ timestamp: "2026-11-10T20:00:00Z" });
  await api.call("POST", "/events", { as: key, json: event });
  await rollUpAll(api);
  const days = "startDate=2026-11-10&endDate=2026-11-10";
  const path = `/analytics/summary?${days}&timeZone=UTC`;
  // Remembers UTC from here on.
  expect((await api.call("GET", `/analytics/summary?${days}`, { as: key })).body.totals.events).toBe(1);
  const zone = { tenantId, timeZone: "Asia/Tokyo" };
  await changeTimeZone(api.deps.db.transactions, zone);
  await rebuildTenant(api.deps.db.transactions, zone, {});
  await api.deps.invalidator.invalidateTags(tenantId, [clearingTag("analytics")]);
  await api.call("GET", path, { as: key });
  const other = createTestDeps(api.config);
  await waitUntilReady(other.redis, 5_000);
  const app = createApp(other, { ...api.config, version: "test" });
  const answer = await app.request(path, { headers: { authorization: `Bearer ${key}` } });
  expect(await answer.json()).toMatchObject({ totals: { events: 1 }, meta: { cache: "miss" } });
});
