/**
 * Anybody can register as a customer, and every page shows a publishable key: neither may change
 * revenue.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { operatorContext } from "../../src/core/principal.ts";
import {
  countStored,
  createKey,
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
/** Those of whom anybody can be one. */
let strangers: Record<string, string>;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  const ctx = operatorContext(tenant.tenantId);
  const { key } = await api.deps.apiKeys.createApiKey(ctx, { name: "page", kind: "publishable" });
  const { token } = await createPerson(api, tenant.tenantId, "customer");
  strangers = { "a publishable key": key, "a customer": token };
});
afterAll(cleanup);

/** Without a user id: a customer's events are its own. */
const sale = (type: string) => ({
  type,
  productId: "p-1",
  sessionId: "s-1",
  properties: { price: 10, quantity: 2 },
});
const send = (as: string, json: object) => api.call("POST", "/events", { as, json });
const bulk = (as: string, events: object[], query = "") =>
  api.call("POST", `/events/bulk${query}`, { as, json: { events } });
const trust = (trustedSales: unknown) =>
  api.call("PATCH", "/tenants/current", { as: tenant.key, json: { trustedSales } });
const storedEvents = async () => (await countStored(api, tenant.tenantId)).events;

describe.each(["purchase", "refund", "adjustment"])("%s", (type) => {
  test.each(["a publishable key", "a customer"])("of %s is refused and changes nothing", async (who) => {
    const as = strangers[who] ?? "";
    const { status, body } = await send(as, sale(type));
    expect(status).toBe(403);
    expect(body).toMatchObject({
      code: "sales_not_trusted",
      errors: [{ path: "type", code: "sales_not_trusted" }],
    });
    const mixed = await bulk(as, [{ ...sale(type), type: "view" }, sale(type)]);
    expect(mixed.body).toMatchObject({ received: 2, inserted: 1, rejected: 1 });
    expect(mixed.body.errors).toMatchObject([{ index: 1, path: "type", code: "sales_not_trusted" }]);
    const alone = await bulk(as, [sale(type)]);
    expect([alone.status, alone.body.code]).toEqual([403, "sales_not_trusted"]);
    expect(alone.body.errors).toMatchObject([{ path: "events.0.type", code: "sales_not_trusted" }]);
    const strict = await bulk(as, [{ ...sale(type), type: "view" }, sale(type)], "?strict=true");
    expect(strict.status).toBe(403);
    // The sender can mend the other problems, so they are reported as usual.
    expect((await bulk(as, [sale(type), { type: "?" }])).status).toBe(400);
    expect(await storedEvents()).toBe(1);
    await rollUpAll(api);
    const summary = await api.call("GET", "/analytics/summary?days=1", { as: tenant.key });
    expect(summary.body.totals).toMatchObject({ purchases: 0, units: 0, revenue: 0 });
  });

  test("of the shop itself goes: a secret key, one that can only write events, an admin, a seller", async () => {
    const only = await createKey(api, tenant.tenantId, ["events:write"]);
    const admin = await createPerson(api, tenant.tenantId, "admin");
    const seller = await createPerson(api, tenant.tenantId, "seller");
    for (const as of [tenant.key, only, admin.token, seller.token])
      expect((await send(as, sale(type))).status).toBe(202);
  });
});

test("a tenant that trusts everybody with sales says so, and can take it back", async () => {
  expect((await api.call("GET", "/tenants/current", { as: tenant.key })).body.trustedSales).toBe(false);
  expect((await trust("yes")).status).toBe(400);
  expect((await trust(true)).body.trustedSales).toBe(true);
  // Settings are remembered for five seconds; a fresh process remembers none.
  const statuses = async () => {
    const fresh = await createTestApi({ DATABASE_URL: api.env.DATABASE_URL ?? "" });
    const calls = Object.values(strangers).map((as) =>
      fresh.call("POST", "/events", { as, json: sale("purchase") }),
    );
    return (await Promise.all(calls)).map(({ status }) => status);
  };
  expect(await statuses()).toEqual([202, 202]);
  await trust(false);
  expect(await statuses()).toEqual([403, 403]);
  const [entry] = await api.sql`select before, after from audit_log
    where tenant_id = ${tenant.tenantId} and action = 'tenant.updated' order by id limit 1`;
  expect(entry).toMatchObject({ before: { trustedSales: false }, after: { trustedSales: true } });
});

test("two thousand of the largest sales fit the columns and come out exactly", async () => {
  const largest = { quantity: 1_000_000, price: 9_999_999_999.9999 };
  const beyond = [
    { ...largest, quantity: 1_000_001 },
    { ...largest, price: 10_000_000_000.01 },
    // The event of the attacker who took 10^18 off a shop's revenue.
    { quantity: 1e9, price: 1e9 },
  ];
  for (const properties of beyond)
    expect((await send(tenant.key, eventInput({ type: "refund", properties }))).status).toBe(400);
  const events = Array.from({ length: 2_000 }, () => eventInput({ type: "purchase", properties: largest }));
  expect((await bulk(tenant.key, events)).body.inserted).toBe(2_000);
  await rollUpAll(api);
  const sums = await api.sql`
    select units::text, trim_scale(revenue)::text as revenue from product_daily_stats where tenant_id = ${tenant.tenantId}
    union select units::text, trim_scale(revenue)::text from event_hourly_stats where tenant_id = ${tenant.tenantId}`;
  expect([...sums]).toEqual([{ units: "2000000000", revenue: "19999999999999800000" }]);
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
});
