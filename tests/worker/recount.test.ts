/**
 * G2: what the API answers from rollups equals a recount over the raw events by other code, to the
 * cent.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import * as brute from "./brute-force.ts";
import { FROM, ingestShop, readRaw, TO } from "./shop-data.ts";

interface Shop extends TestTenant {
  zone: string;
  raw: brute.RawEvent[];
}

const ZONES = ["Europe/Berlin", "Asia/Kolkata", "UTC", "Australia/Lord_Howe"];

let api: TestApi;
const shops = new Map<string, Shop>();

beforeAll(async () => {
  api = await createTestApi();
  for (const [n, zone] of ZONES.entries()) {
    const tenant = await createTenant(api, { time_zone: zone });
    await ingestShop(api, tenant, 1_000 + n);
    shops.set(zone, { ...tenant, zone, raw: await readRaw(api.sql, tenant.tenantId) });
  }
  // Two workers share the batches of all tenants in different orders, each batch twice.
  const batches = await api.deps.rollups.findOverdue(-1_000, 1_000);
  const other = createTestDeps(api.config);
  const odd = batches.filter((_, n) => n % 2);
  const claimed = await Promise.all([
    api.deps.rollups.rollUp(odd.toReversed()),
    other.rollups.rollUp(batches.slice(0, 20)),
    api.deps.rollups.rollUp(batches.toReversed()),
  ]);
  expect(claimed.reduce((sum, n) => sum + n)).toBe(batches.length);
});
afterAll(cleanup);

const shop = (zone: string) => shops.get(zone) as Shop;

async function ask({ key }: Shop, path: string, query: Record<string, string> = {}) {
  const search = new URLSearchParams({ startDate: FROM, endDate: TO, ...query });
  const { status, body } = await api.call("GET", `${path}?${search}`, { as: key });
  expect(status).toBe(200);
  const { meta, notes, ...answer } = body;
  expect(notes?.[0]?.code === "conversion_over_one").toBe(brute.convertsOverOne(answer));
  return { meta, answer };
}

describe.each(ZONES)("in %s", (zone) => {
  const days = () => brute.within(shop(zone).raw, FROM, TO, zone);

  test("the data is worth a recount", () => {
    expect(days().length).toBeGreaterThan(150);
    expect(shop(zone).raw.length).toBeGreaterThan(days().length);
  });

  test.each([
    "views",
    "clicks",
    "addToCarts",
    "checkoutStarts",
    "purchases",
    "units",
    "revenue",
    "conversionRate",
  ] as const)("top products by %s", async (sortBy) => {
    for (const limit of [3, 50]) {
      const { answer } = await ask(shop(zone), "/analytics/products/top", { sortBy, limit: String(limit) });
      const all = brute.topProducts(days(), sortBy, 1_000);
      expect(answer).toEqual({ items: all.slice(0, limit), truncated: all.length > limit });
    }
  });

  test("timeseries of every product, and of one that nobody has seen", async () => {
    const products = new Set(days().flatMap(({ productId }) => productId ?? []));
    for (const productId of [...products, "unseen"]) {
      const own = days().filter((event) => event.productId === productId);
      const points = brute.bucketsOf(FROM, TO, zone, "day").map((day) => ({
        day,
        ...brute.measure(own.filter(({ tsMs }) => brute.dayOf(tsMs, zone) === day)),
      }));
      const { answer } = await ask(shop(zone), `/analytics/products/${productId}/timeseries`);
      expect(answer).toEqual({ productId, points });
    }
  });

  test.each(["hour", "day", "week", "month"] as const)("summary by %s", async (groupBy) => {
    const { answer, meta } = await ask(shop(zone), "/analytics/summary", { groupBy });
    expect(meta).toMatchObject({ from: FROM, to: TO, timeZone: zone, granularity: groupBy, lagMs: 0 });
    expect(answer).toEqual(brute.summary(days(), FROM, TO, zone, groupBy));
  });

  test.each(["America/New_York", "Asia/Kathmandu", "Europe/Berlin", "UTC", "Australia/Lord_Howe"])(
    "summary on the clocks of %s",
    async (timeZone) => {
      const events = brute.within(shop(zone).raw, FROM, TO, timeZone);
      for (const groupBy of ["hour", "day"] as const) {
        const { answer } = await ask(shop(zone), "/analytics/summary", { groupBy, timeZone });
        expect(answer).toEqual(brute.summary(events, FROM, TO, timeZone, groupBy, zone));
      }
    },
  );

  test("summary of each single day, and so of the one with 25 hours", async () => {
    for (const day of brute.bucketsOf(FROM, TO, zone, "day")) {
      const events = brute.within(shop(zone).raw, day, day, zone);
      const { answer } = await ask(shop(zone), "/analytics/summary", {
        startDate: day,
        endDate: day,
        groupBy: "hour",
      });
      expect(answer).toEqual(brute.summary(events, day, day, zone, "hour"));
    }
  });

  test.each(["country", "device", "referrer"])("breakdown by %s", async (property) => {
    const { answer } = await ask(shop(zone), "/analytics/breakdown", { property, limit: "50" });
    expect(answer).toEqual({
      items: brute.breakdown(days(), property, 50),
      truncated: false,
      nextCursor: null,
    });
  });

  test("summaries of every user, and of one who never came", async () => {
    const users = new Set(days().map(({ userKey }) => userKey));
    for (const userId of [...users, "nobody"]) {
      const own = days().filter(({ userKey }) => userKey === userId);
      const measures = brute.measure(own);
      const { answer } = await ask(shop(zone), `/analytics/users/${userId}/summary`);
      expect(answer).toEqual({
        userId,
        totals: {
          events: own.length,
          ...measures,
          spend: measures.revenue,
          activeDays: new Set(own.map(({ tsMs }) => brute.dayOf(tsMs, zone))).size,
        },
      });
    }
  });
});

test("a Berlin day with 25 hours has 25 buckets, and one in spring 23", async () => {
  const hours = async (day: string) =>
    (
      await ask(shop("Europe/Berlin"), "/analytics/summary", {
        startDate: day,
        endDate: day,
        groupBy: "hour",
      })
    ).answer.series.length;
  expect([await hours("2026-10-25"), await hours("2026-03-29"), await hours("2026-06-01")]).toEqual([
    25, 23, 24,
  ]);
});
