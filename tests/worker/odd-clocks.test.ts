/**
 * Days and hours where the clock is odd: a midnight that happens twice, and a shift of half an
 * hour.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import { createTenant, createTestApi, rollUpAll, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

/** The tenant's events at these instants, rolled up. */
async function tenantWith(timeZone: string, instants: readonly string[]) {
  const tenant = await createTenant(api, { time_zone: timeZone });
  const events = instants.map((timestamp) => ({ type: "view", productId: "p", anonymousId: "a", timestamp }));
  expect((await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } })).status).toBe(202);
  await rollUpAll(api);
  return tenant;
}

/**
 * In Havana the clock goes from 01:00 back to 00:00 on 2025-11-02, at 05:00 UTC: midnight happens
 * at 04:00 and 05:00 UTC.
 */
const HAVANA = "America/Havana";
const ROUND_MIDNIGHT = ["2025-11-02T03:59:59Z", "2025-11-02T04:30:00Z", "2025-11-02T05:30:00Z"];

test("a day whose midnight happens twice begins with the first one, in every answer alike", async () => {
  const tenant = await tenantWith(HAVANA, ROUND_MIDNIGHT);
  const day = "startDate=2025-11-02&endDate=2025-11-02";
  for (const groupBy of ["hour", "day"]) {
    const { body } = await api.call("GET", `/analytics/summary?${day}&groupBy=${groupBy}`, {
      as: tenant.key,
    });
    expect(body.totals.views).toBe(2);
    expect(body.series.reduce((sum: number, one: { views: number }) => sum + one.views, 0)).toBe(2);
    expect(body.series).toHaveLength(groupBy === "hour" ? 25 : 1);
  }
  const top = await api.call("GET", `/analytics/products/top?${day}`, { as: tenant.key });
  expect(top.body.items[0].views).toBe(2);
});

test("verify and rebuild cut the days in the same place", async () => {
  const tenant = await tenantWith(HAVANA, ROUND_MIDNIGHT);
  const zone = { tenantId: tenant.tenantId, timeZone: HAVANA };
  const { transactions } = api.deps.db;
  for (const range of [{}, { from: "2025-11-02" }, { to: "2025-11-01" }]) {
    expect(await verifyTenant(transactions, zone, range)).toMatchObject({ differing: 0, differences: [] });
    await rebuildTenant(transactions, zone, range);
    expect(await verifyTenant(transactions, zone, {})).toMatchObject({ differing: 0, differences: [] });
  }
});

test("hours that begin at half past after a shift of thirty minutes are all in the series", async () => {
  // Lord Howe moves from +11:00 to +10:30 on 2026-04-05 at 15:00 UTC of the day before.
  const tenant = await tenantWith("Australia/Lord_Howe", [
    "2026-04-04T14:10:00Z",
    "2026-04-04T15:10:00Z",
    "2026-04-04T15:40:00Z",
    "2026-04-05T01:00:00Z",
  ]);
  const query = "startDate=2026-04-05&endDate=2026-04-05&groupBy=hour";
  const { body } = await api.call("GET", `/analytics/summary?${query}`, { as: tenant.key });
  expect(body.totals.views).toBe(4);
  expect(body.series.reduce((sum: number, one: { views: number }) => sum + one.views, 0)).toBe(4);
});
