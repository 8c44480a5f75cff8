/**
 * A sale counts what its sender means: a price, a line's total, or the catalogue's price. What
 * counts nothing has a warning.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { operatorContext } from "../../src/core/principal.ts";
import { createEventsService } from "../../src/features/events/index.ts";
import { createPriceLookUp } from "../../src/features/products/index.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CLEAN, verify } from "../import/fixtures.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  for (const product of [
    { id: "tea", name: "Tea", price: 4.95 },
    { id: "gone", name: "Gone", price: 2 },
    { id: "free", name: "Free", price: 0 },
  ])
    expect((await api.call("POST", "/products", { as: tenant.key, json: product })).status).toBe(201);
  await api.call("DELETE", "/products/gone", { as: tenant.key });
});
afterAll(cleanup);

const SALE_TABLES = [
  "product_daily_stats",
  "product_period_stats",
  "user_daily_stats",
  "property_daily_stats",
  "event_hourly_stats",
  "event_daily_stats",
];

const send = (type: string, properties: object | undefined, more: object = {}) =>
  api.call("POST", "/events", { as: tenant.key, json: eventInput({ type, properties, ...more }) });
const bulk = (events: object[], query = "") =>
  api.call("POST", `/events/bulk${query}`, { as: tenant.key, json: { events } });
const readBack = async (id: string) => (await api.call("GET", `/events/${id}`, { as: tenant.key })).body;
async function totals() {
  await rollUpAll(api);
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
  const query = "/analytics/summary?days=1&skipCache=true";
  const { purchases, units, revenue } = (await api.call("GET", query, { as: tenant.key })).body.totals;
  return { purchases, units, revenue };
}

describe("a sale without a price", () => {
  test("of a product of the catalogue counts its price, which the stored event says", async () => {
    const { status, body } = await send("purchase", { quantity: 3 }, { productId: "tea" });
    expect([status, body]).toEqual([202, { accepted: true, id: expect.any(String), duplicate: false }]);
    const event = await readBack(body.id);
    expect(event.properties).toEqual({ quantity: 3, price: 4.95, priceSource: "catalogue" });
    expect((await send("refund", undefined, { productId: "tea" })).status).toBe(202);
    // Late sales of a deleted product, and a price of nothing.
    expect((await send("purchase", {}, { productId: "gone" })).status).toBe(202);
    expect((await send("purchase", {}, { productId: "free" })).status).toBe(202);
    // The stored amount counts: a later price changes nothing.
    await api.call("PATCH", "/products/tea", { as: tenant.key, json: { price: 99 } });
    expect(await totals()).toEqual({ purchases: 3, units: 4, revenue: 11.9 });
  });

  test("of a product that the catalogue does not know is refused, unless it is a refund, which says so", async () => {
    for (const more of [{ productId: "unknown" }, { productId: undefined }]) {
      const { status, body } = await send("purchase", { quantity: 1 }, more);
      expect([status, body.code]).toEqual([400, "invalid_input"]);
      expect(body.errors).toMatchObject([{ path: "properties.price", code: "price_required" }]);
      const refund = await send("refund", { quantity: 2 }, more);
      expect(refund.body.warnings).toEqual([{ index: 0, path: "properties.price", code: "price_unknown" }]);
    }
    // An adjustment is an amount, so no catalogue helps.
    expect((await send("adjustment", {}, { productId: "tea" })).status).toBe(400);
    expect(await totals()).toEqual({ purchases: 0, units: -4, revenue: 0 });
  });

  test("in bulk: one look at the catalogue for all of them, the others rejected by their place", async () => {
    const events = [
      eventInput({ type: "purchase", productId: "unknown", messageId: "a" }),
      eventInput({ type: "purchase", productId: "tea", messageId: "b" }),
      eventInput({ type: "purchase", productId: "tea", properties: { quantity: 2 } }),
      eventInput(),
      eventInput({ type: "refund", productId: "unknown" }),
    ];
    const { body } = await bulk(events);
    expect(body).toMatchObject({ received: 5, inserted: 4, rejected: 1 });
    expect(body.errors).toMatchObject([{ index: 0, path: "properties.price", code: "price_required" }]);
    expect(body.warnings).toEqual([{ index: 4, path: "properties.price", code: "price_unknown" }]);
    expect((await bulk(events, "?strict=true")).status).toBe(400);
    expect(await totals()).toEqual({ purchases: 2, units: 2, revenue: 14.85 });
  });

  test("another tenant's catalogue knows nothing of it", async () => {
    const other = await createTenant(api);
    const json = eventInput({ type: "purchase", productId: "tea" });
    expect((await api.call("POST", "/events", { as: other.key, json })).status).toBe(400);
  });
});

test("many at once share a query, and events with a price cause none", async () => {
  const queries: unknown[] = [];
  const held = Promise.withResolvers<void>();
  const guard = {
    lookUp: async <T>(ask: () => PromiseLike<T>) => {
      queries.push(ask);
      if (queries.length === 1) await held.promise;
      return ask();
    },
  };
  const findPrices = createPriceLookUp(api.deps.db.lookUps, guard);
  const asked = Array.from({ length: 50 }, () => findPrices(tenant.tenantId, new Set(["tea", "nothing"])));
  const other = await createTenant(api);
  const foreign = findPrices(other.tenantId, new Set(["tea"]));
  held.resolve();
  for (const prices of await Promise.all(asked)) expect([...prices]).toEqual([["tea", "4.95"]]);
  expect([...(await foreign)]).toEqual([]);
  expect(queries).toHaveLength(2);

  // An event with a price or a total is accepted even though nobody can look a price up.
  const lookNowhere = () => Promise.reject(new Error("nobody looks up"));
  const events = createEventsService({
    ...api.deps,
    read: api.deps.db.read,
    findPrices: lookNowhere,
    maxAgeDays: 1,
  });
  const ctx = operatorContext(tenant.tenantId);
  const priced = eventInput({ type: "purchase", properties: { price: 1 } });
  expect(await events.createEvent(ctx, priced)).toMatchObject({ duplicate: false });
  const mixed = [priced, eventInput(), eventInput({ type: "refund", properties: { revenue: 1 } })];
  expect(await events.createEvents(ctx, { events: mixed }, { strict: true })).toMatchObject({ inserted: 3 });
  await expect(events.createEvent(ctx, eventInput({ type: "purchase" }))).rejects.toThrow("nobody looks up");
});

describe("revenue, a line's total,", () => {
  test("is taken as it is, and the quantity counts units", async () => {
    expect((await send("purchase", { quantity: 3, revenue: 10 }, { productId: "unknown" })).status).toBe(202);
    expect((await send("purchase", { revenue: 0.0001 })).status).toBe(202);
    expect((await send("refund", { quantity: 7, revenue: 0.01 })).status).toBe(202);
    expect((await send("adjustment", { revenue: -5.5 })).status).toBe(202);
    for (const revenue of [-0.01, 1e11 + 1, "10", null])
      expect((await send("purchase", { revenue })).status).toBe(400);
    expect(await totals()).toEqual({ purchases: 2, units: -3, revenue: 4.4901 });
  });

  test("in every rollup, also when its session is linked to a user, and on another clock", async () => {
    const sale = { quantity: 3, revenue: 10, country: "DE" };
    await send("purchase", sale, { anonymousId: undefined, sessionId: "s", productId: "tea" });
    await rollUpAll(api);
    const { userId, token } = await createPerson(api, tenant.tenantId, "customer");
    const linked = await api.call("POST", "/events/link-session", { as: token, json: { sessionId: "s" } });
    expect(linked.body).toEqual({ linked: 1 });
    for (const table of SALE_TABLES) {
      const rows =
        await api.sql`select units::int, trim_scale(revenue)::text as revenue from ${api.sql(table)}
        where tenant_id = ${tenant.tenantId}`;
      expect([...new Set(rows.map((row) => JSON.stringify(row)))]).toEqual(['{"units":3,"revenue":"10"}']);
    }
    const user = await api.sql`select user_key from user_daily_stats where tenant_id = ${tenant.tenantId}`;
    expect([...user]).toEqual([{ user_key: userId }]);
    expect(await totals()).toEqual({ purchases: 1, units: 3, revenue: 10 });
    // No rollup is kept by the hours of Kathmandu, so the raw events are counted.
    const query = "/analytics/summary?days=2&timeZone=Asia/Kathmandu";
    const { body } = await api.call("GET", query, { as: tenant.key });
    expect(body.totals).toMatchObject({ units: 3, revenue: 10 });
  });
});

describe("a 202 says what counts for nothing", () => {
  test.each<[string, object, object[]]>([
    ["revenue beside price", { price: 5, revenue: 10 }, [{ path: "properties.revenue", code: "ignored" }]],
    [
      "lines, and money under other names",
      { price: 5, items: [{}], products: [], total: 1, value: 2, amount: 3, qty: 4 },
      ["items", "products", "total", "value", "amount", "qty"].map((name) => ({
        path: `properties.${name}`,
        code: "ignored",
      })),
    ],
    [
      "fields of the event among its properties",
      { price: 5, sessionId: "s", user_id: "u", productId: "p-1", anonymousId: "a" },
      [
        { path: "properties.sessionId", code: "misplaced" },
        { path: "properties.user_id", code: "misplaced" },
      ],
    ],
  ])("%s", async (_, properties, expected) => {
    const { status, body } = await send("purchase", properties);
    expect(status).toBe(202);
    expect(body.warnings).toEqual(expected.map((warning) => ({ index: 0, ...warning })));
  });

  test("properties of a sale in its context, and revenue of what is no sale", async () => {
    const sale = await send("purchase", { price: 1 }, { context: { price: 1, currency: "EUR", page: "/" } });
    expect(sale.body.warnings.map(({ path }: { path: string }) => path)).toEqual([
      "context.price",
      "context.currency",
    ]);
    const order = await send("order_completed", { revenue: 10, items: [1], price: 1, value: 2 });
    expect(order.body.warnings).toEqual([
      { index: 0, path: "properties.revenue", code: "ignored" },
      { index: 0, path: "properties.items", code: "ignored" },
    ]);
  });

  test("and nothing where all of it counts, or is the shop's own business", async () => {
    const silent = [
      await send("purchase", { price: 5, quantity: 2, country: "DE", coupon: "x", items: "many" }),
      await send("view", { price: 5, currency: "USD", value: 3 }),
      await send("view", undefined),
    ];
    for (const { body } of silent)
      expect(body).toEqual({ accepted: true, id: expect.any(String), duplicate: false });
    expect((await bulk([eventInput()])).body).not.toHaveProperty("warnings");
  });

  test("of the first hundred of a bulk request", async () => {
    const events = Array.from({ length: 150 }, () => eventInput({ properties: { revenue: 1 } }));
    const { body } = await bulk(events);
    expect([body.inserted, body.warnings.length]).toEqual([150, 100]);
    expect(body.warnings[99]).toEqual({ index: 99, path: "properties.revenue", code: "ignored" });
  });
});
