/**
 * The share of users who bought, exact over any range; and a conversion over 100% comes with a
 * note.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { verifyTenant } from "../../src/features/rollups/index.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let shop: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  shop = await createTenant(api);
});
afterAll(cleanup);

const at = (day: string) => `${day}T12:00:00Z`;
const buy = (anonymousId: string, day: string, more = {}) => ({
  ...{ type: "purchase", productId: "tea", anonymousId, timestamp: at(day) },
  ...{ properties: { price: 5 }, ...more },
});
const view = (anonymousId: string, day: string, more = {}) => ({
  ...{ type: "view", productId: "tea", anonymousId, timestamp: at(day), ...more },
});

async function send(tenant: TestTenant, events: object[]): Promise<void> {
  const { status } = await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  expect(status).toBe(202);
  await rollUpAll(api);
}

const get = async (path: string) => (await api.call("GET", path, { as: shop.key })).body;
const summary = (from: string, to: string, groupBy = "day") =>
  get(`/analytics/summary?startDate=${from}&endDate=${to}&groupBy=${groupBy}&skipCache=true`);

async function expectClean(): Promise<void> {
  const zone = { tenantId: shop.tenantId, timeZone: "UTC" };
  const report = await verifyTenant(api.deps.db.transactions, zone, {});
  expect(report).toMatchObject({ differences: [], differing: 0 });
}

test("a buyer counts once in a range, however often and on however many days", async () => {
  const [monday, tuesday] = ["2026-11-02", "2026-11-03"];
  await send(shop, [
    ...[buy("ada", monday), buy("ada", monday), buy("ada", tuesday), view("bob", monday)],
    ...[view("cem", tuesday), buy("cem", tuesday), view("dee", tuesday)],
  ]);
  for (const folded of [false, true]) {
    if (folded) await api.deps.returnsFolder.fold();
    const { totals, series } = await summary(monday, tuesday);
    expect(totals).toMatchObject({ uniqueUsers: 4, buyers: 2, purchaseRate: 0.5 });
    expect(series).toMatchObject([
      { uniqueUsers: 2, buyers: 1, purchaseRate: 0.5 },
      { uniqueUsers: 3, buyers: 2, purchaseRate: 2 / 3 },
    ]);
    const [week] = (await summary(monday, tuesday, "week")).series;
    expect(week).toMatchObject({ uniqueUsers: 4, buyers: 2, purchaseRate: 0.5 });
    const [hour] = (await summary(monday, tuesday, "hour")).series;
    expect(hour).toMatchObject({ uniqueUsers: null, buyers: null, purchaseRate: null });
    await expectClean();
  }
});

test("on another clock they are counted from raw events", async () => {
  const path = "/analytics/summary?startDate=2026-11-02&endDate=2026-11-03&timeZone=Asia/Tokyo";
  const { totals, series } = await get(path);
  expect(totals).toMatchObject({ uniqueUsers: 4, buyers: 2, purchaseRate: 0.5 });
  expect(series[0]).toMatchObject({ uniqueUsers: null, buyers: null, purchaseRate: null });
});

test("linking a session takes its purchases from the visitor and gives them to the user", async () => {
  const day = "2026-10-05";
  const { token, userId } = await createPerson(api, shop.tenantId, "customer");
  await send(shop, [
    buy("eve", day, { sessionId: "link-1" }),
    view("eve", day, { sessionId: "link-2" }),
    view("", day, { anonymousId: undefined, userId }),
  ]);
  await api.deps.returnsFolder.fold();
  expect((await summary(day, day)).totals).toMatchObject({ uniqueUsers: 2, buyers: 1 });
  const json = { sessionId: "link-1" };
  expect((await api.call("POST", "/events/link-session", { as: token, json })).status).toBe(200);
  expect((await summary(day, day)).totals).toMatchObject({ uniqueUsers: 2, buyers: 1, purchaseRate: 0.5 });
  const buyers = await api.sql`
    select user_key, purchases::int from buyer_daily_stats where tenant_id = ${shop.tenantId} and day = ${day}`;
  expect([...buyers]).toEqual([{ user_key: userId, purchases: 1 }]);
  await expectClean();
  await api.deps.returnsFolder.fold();
  await expectClean();
});

test("every answer that shows a conversion over 100% says so, and no other does", async () => {
  const range = "startDate=2026-09-01&endDate=2026-09-02&skipCache=true";
  const paths = [
    `/analytics/summary?${range}`,
    `/analytics/summary/paginated?${range}`,
    `/analytics/products/top?${range}`,
    `/analytics/products/stats?${range}`,
    `/analytics/products/tea/timeseries?${range}`,
    `/analytics/users/fay/summary?${range}`,
    `/analytics/breakdown?property=country&${range}`,
  ];
  const country = { country: "DE" };
  const notesOf = async () => {
    const bodies = await Promise.all(paths.map(get));
    const days = { startDate: "2026-09-01", endDate: "2026-09-02", skipCache: true };
    const json = { metrics: ["conversionRate"], ...days };
    const asked = await api.call("POST", "/analytics/query", { as: shop.key, json });
    return [...bodies, asked.body].map(({ notes }) => notes?.map(({ code }: { code: string }) => code));
  };
  await send(shop, [
    view("", "2026-09-01", { anonymousId: undefined, userId: "fay", properties: country }),
    buy("", "2026-09-01", { anonymousId: undefined, userId: "fay", properties: { price: 5, ...country } }),
  ]);
  expect(await notesOf()).toEqual(Array.from({ length: 8 }, () => undefined));
  await send(shop, [
    buy("", "2026-09-01", { anonymousId: undefined, userId: "fay", properties: { price: 5, ...country } }),
  ]);
  expect(await notesOf()).toEqual(Array.from({ length: 8 }, () => ["conversion_over_one"]));
  const compared = await get(
    "/analytics/summary?startDate=2026-09-03&endDate=2026-09-04&compare=previous&skipCache=true",
  );
  expect(compared.previous.totals.conversionRate).toBe(2);
  expect(compared.notes).toHaveLength(1);
  expect((await summary("2026-09-01", "2026-09-02")).totals.purchaseRate).toBe(1);
});
