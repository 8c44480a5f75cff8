/**
 * An amount in another currency is refused, or converted by the rate of its day: once, exactly, and
 * for good.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { convertAmount } from "../../src/core/exchange-rates.ts";
import {
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CLEAN, createFiles, importFile, readFigures, verify } from "../import/fixtures.ts";

let api: TestApi;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

type Rate = { currency: string; from: string; rate: string };

const patch = ({ key }: TestTenant, json: object) => api.call("PATCH", "/tenants/current", { as: key, json });
/** Set before the first event, since settings are remembered for five seconds. */
async function createShop(exchangeRates: Rate[], time_zone = "UTC"): Promise<TestTenant> {
  const tenant = await createTenant(api, { time_zone });
  if (exchangeRates.length > 0) expect((await patch(tenant, { exchangeRates })).status).toBe(200);
  return tenant;
}
const send = ({ key }: TestTenant, properties: object, more: object = {}) =>
  api.call("POST", "/events", { as: key, json: eventInput({ type: "purchase", properties, ...more }) });
const readBack = async ({ key }: TestTenant, id: string) =>
  (await api.call("GET", `/events/${id}`, { as: key })).body;
async function revenueOf({ tenantId }: TestTenant): Promise<string | undefined> {
  await rollUpAll(api);
  expect(await verify(api, tenantId)).toEqual(CLEAN);
  return (await readFigures(api.sql, tenantId)).total;
}

describe("without exchange rates", () => {
  test("the tenant's own currency goes, in any case; another one is refused", async () => {
    const shop = await createShop([]);
    for (const currency of ["EUR", "eur", undefined])
      expect((await send(shop, { price: 1, currency })).status).toBe(202);
    const { status, body } = await send(shop, { price: 1, currency: "USD" });
    expect([status, body.code]).toEqual([400, "currency_mismatch"]);
    expect(body.errors).toMatchObject([{ path: "properties.currency", code: "currency_mismatch" }]);
    expect(body.detail).toContain("properties.currency is not EUR, this shop's currency");
    for (const currency of ["$", "EURO", "", null, 978, {}]) {
      const refused = await send(shop, { price: 1, currency });
      expect([refused.status, refused.body.code]).toEqual([400, "invalid_input"]);
    }
    // An event that is no sale counts nothing, so its currency is the shop's own business.
    expect((await send(shop, { price: 1, currency: "USD" }, { type: "view" })).status).toBe(202);
    expect(await revenueOf(shop)).toBe("3");
  });

  test("in bulk, the others are stored; a request of nothing else is a currency_mismatch", async () => {
    const { key } = await createShop([]);
    const usd = eventInput({ type: "refund", properties: { revenue: 5, currency: "USD" } });
    const mixed = await api.call("POST", "/events/bulk", { as: key, json: { events: [usd, eventInput()] } });
    expect(mixed.body).toMatchObject({ inserted: 1, rejected: 1 });
    expect(mixed.body.errors).toMatchObject([
      { index: 0, path: "properties.currency", code: "currency_mismatch" },
    ]);
    const alone = await api.call("POST", "/events/bulk", { as: key, json: { events: [usd] } });
    expect([alone.status, alone.body.code]).toEqual([400, "currency_mismatch"]);
    expect(alone.body.detail).toStartWith("No event is valid: events.0.properties.currency is not EUR");
  });
});

const RATES = [
  { currency: "USD", from: "2026-03-01", rate: "0.9" },
  { currency: "USD", from: "2026-06-01", rate: "0.92345" },
  { currency: "JPY", from: "2026-01-01", rate: "0.0061" },
];

describe("with exchange rates", () => {
  test("a line is converted by the rate of its day and rounded once; the original stays", async () => {
    const shop = await createShop(RATES);
    const sale = { quantity: 3, price: 19.99, currency: "USD" };
    const { body } = await send(shop, sale, { timestamp: "2026-07-01T12:00:00Z" });
    // 3 x 19.99 x 0.92345 = 55.37929...
    expect((await readBack(shop, body.id)).properties).toEqual({
      ...sale,
      converted: { currency: "EUR", amount: 55.3793, rate: "0.92345", from: "2026-06-01" },
    });
    await send(shop, { revenue: 1000, quantity: 2, currency: "jpy" }, { timestamp: "2026-01-01T00:00:00Z" });
    await send(shop, { price: 10, currency: "USD" }, { type: "refund", timestamp: "2026-05-31T23:59:59Z" });
    await send(
      shop,
      { price: -1, currency: "USD" },
      { type: "adjustment", timestamp: "2026-03-01T00:00:00Z" },
    );
    expect(await revenueOf(shop)).toBe("51.5793");
    // No rate of that day yet, and no price: the catalogue's are in another currency.
    const early = await send(shop, { price: 1, currency: "USD" }, { timestamp: "2026-02-28T23:59:59Z" });
    expect([early.body.code, early.body.errors[0].message]).toEqual([
      "currency_mismatch",
      expect.stringContaining("USD on 2026-02-28"),
    ]);
    const unpriced = await send(shop, { currency: "USD" }, { timestamp: "2026-07-01T12:00:00Z" });
    expect(unpriced.body.errors).toMatchObject([{ path: "properties.price", code: "price_required" }]);
  });

  test("a day is one of the tenant's clock", async () => {
    const shop = await createShop(RATES, "America/New_York");
    // 20:00 on 31 May in New York.
    await send(shop, { price: 100, currency: "USD" }, { timestamp: "2026-06-01T00:00:00Z" });
    await send(shop, { price: 100, currency: "USD" }, { timestamp: "2026-06-01T04:00:00Z" });
    expect(await revenueOf(shop)).toBe("182.345");
  });

  test("what was counted stays, whatever becomes of the rates", async () => {
    const shop = await createShop(RATES);
    await send(shop, { price: 100, currency: "USD" }, { timestamp: "2026-07-01T12:00:00Z" });
    expect(await revenueOf(shop)).toBe("92.345");
    await patch(shop, { exchangeRates: [{ currency: "USD", from: "2026-01-01", rate: "2" }] });
    expect(await revenueOf(shop)).toBe("92.345");
    await patch(shop, { exchangeRates: [] });
    expect(await revenueOf(shop)).toBe("92.345");
  });

  test("the largest amounts fit their column", async () => {
    const shop = await createShop([{ currency: "KWD", from: "2000-01-01", rate: "9999999.9999999999" }]);
    const largest = { quantity: 1_000_000, price: 10_000_000_000, currency: "KWD" };
    expect((await send(shop, largest)).status).toBe(202);
    expect(await revenueOf(shop)).toBe("99999999999999999000000");
  });

  test("imports follow the same rates and keep the rejected apart", async () => {
    const shop = await createShop(RATES);
    const line = (currency: string) =>
      JSON.stringify({
        ...{ type: "purchase", userId: "u", timestamp: "2026-07-01T12:00:00Z" },
        properties: { price: 100, currency },
      });
    const file = await createFiles()("sales.ndjson", ["USD", "EUR", "GBP"].map(line).join("\n"));
    const { stdout, stderr } = await importFile(api, shop, file);
    expect(stdout).toContain("3 rows read, 2 stored, 0 duplicates, 1 rejected");
    expect(stderr).toContain("line 3 rejected: properties.currency is not EUR");
    expect(await revenueOf(shop)).toBe("192.345");
  });
});

test("conversion rounds once, half away from zero, and is exact at any size", () => {
  const cases: [number, string, string, string][] = [
    [1, "0.0001", "0.5", "0.0001"],
    [1, "-0.0001", "0.5", "-0.0001"],
    [1, "0.0001", "0.4999999999", "0.0000"],
    [3, "0.3333", "1", "0.9999"],
    [7, "1.05", "0.3333333333", "2.4500"],
    [1_000_000, "9999999999.9999", "9999999.9999999999", "99999999999998999000000.0000"],
    [1, "0", "1", "0.0000"],
  ];
  for (const [quantity, amount, rate, expected] of cases)
    expect(`${quantity} x ${amount} x ${rate} = ${convertAmount(quantity, amount, rate)}`).toBe(
      `${quantity} x ${amount} x ${rate} = ${expected}`,
    );
});

describe("the setting", () => {
  test("is read back as it was sent, and audited where it changed", async () => {
    const shop = await createShop(RATES);
    expect((await api.call("GET", "/tenants/current", { as: shop.key })).body.exchangeRates).toEqual(RATES);
    await patch(shop, { name: "Renamed" });
    const entries = await api.sql`select after ? 'exchangeRates' as rates,
        jsonb_typeof((select exchange_rates from tenants where id = ${shop.tenantId})) as type
      from audit_log where tenant_id = ${shop.tenantId} and action = 'tenant.updated' order by id`;
    expect([...entries]).toEqual([
      { rates: true, type: "array" },
      { rates: false, type: "array" },
    ]);
  });

  const [usd] = RATES as [Rate];
  test.each<[string, unknown]>([
    ["the tenant's own currency", [{ ...usd, currency: "EUR" }]],
    ["two rates of one day", [usd, { ...usd, rate: "1" }]],
    ["a rate of nothing", [{ ...usd, rate: "0.00" }]],
    ["a negative rate", [{ ...usd, rate: "-1" }]],
    ["a rate that is a number", [{ ...usd, rate: 0.9 }]],
    ["eleven decimals", [{ ...usd, rate: "0.12345678901" }]],
    ["no such day", [{ ...usd, from: "2026-02-30" }]],
    ["a currency in small letters", [{ ...usd, currency: "usd" }]],
    ["an unknown key", [{ ...usd, to: "2027-01-01" }]],
    ["more than a thousand", Array.from({ length: 1_001 }, (_, n) => ({ ...usd, from: dayAfter(n) }))],
    ["no list", { USD: "0.9" }],
  ])("refuses %s", async (_, exchangeRates) => {
    const shop = await createShop([]);
    expect((await patch(shop, { exchangeRates: exchangeRates as object })).status).toBe(400);
  });

  test("another currency of the tenant takes rates into it", async () => {
    const shop = await createShop(RATES);
    const alone = await patch(shop, { currency: "CHF" });
    expect([alone.status, alone.body.errors[0].path]).toEqual([400, "exchangeRates"]);
    expect((await patch(shop, { currency: "USD", exchangeRates: RATES })).status).toBe(400);
    expect((await patch(shop, { currency: "CHF", exchangeRates: RATES })).status).toBe(200);
    expect((await patch(shop, { currency: "EUR", exchangeRates: [] })).status).toBe(200);
  });
});

function dayAfter(days: number): string {
  return new Date(Date.UTC(2020, 0, 1 + days)).toISOString().slice(0, 10);
}
