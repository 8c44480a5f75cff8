/**
 * Events from before today's signs and bounds count what they counted then: purchases with a
 * negative price, and events of a shop's own type `adjustment`, which carried no amount.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { idAt, newId } from "../../src/core/ids.ts";
import { insertBatches, type ParsedEvent } from "../../src/features/events/index.ts";
import { createTenant, createTestApi, rollUpAll, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CLEAN, verify } from "../import/fixtures.ts";

let api: TestApi;
let tenant: TestTenant;

const NOON_MS = Date.parse("2026-08-12T12:00:00Z");

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

/**
 * As the earlier version stored it: without a check of the sign, and without an amount where the
 * type was no sale.
 */
const stored = (type: string, quantity: number | null, unitPrice: string | null): ParsedEvent => ({
  id: idAt(NOON_MS),
  tsMs: NOON_MS,
  type,
  productId: "B",
  userId: "bookkeeping",
  anonymousId: null,
  sessionId: null,
  messageId: null,
  messageKey: null,
  quantity,
  unitPrice,
  amount: null,
  properties: JSON.stringify({ price: -11_062.06, country: "United Kingdom" }),
  context: null,
});

test("what was stored before counts as before, in every rollup", async () => {
  const events = [
    stored("purchase", 1, "-11062.06"),
    stored("purchase", 2, "-0.5"),
    stored("refund", 1, "-7"),
    stored("adjustment", null, null),
    stored("purchase", 1_000_000_000, "1000000000"),
  ];
  const { tenantId } = tenant;
  const head = { tenantId, batchId: newId(), receivedAtMs: NOON_MS, received: events.length, rejected: 0 };
  await api.deps.partitions.ensure([NOON_MS]);
  await insertBatches(api.sql, [{ ...head, events }]);
  await rollUpAll(api);
  // The formula of the earlier version: quantity x price, subtracted by a refund. Three purchases
  // and a refund of them.
  const counted = {
    events: "5",
    purchases: "3",
    units: "1000000002",
    revenue: "999999999999988943.94",
  };
  for (const table of [
    "product_daily_stats",
    "product_period_stats",
    "user_daily_stats",
    "property_daily_stats",
  ]) {
    const rows = await api.sql`select distinct events::text, purchases::text, units::text,
        trim_scale(revenue)::text as revenue
      from ${api.sql(table)} where tenant_id = ${tenantId}`;
    expect(`${table} ${JSON.stringify(rows)}`).toBe(`${table} ${JSON.stringify([counted])}`);
  }
  const types = await api.sql`select type, events::text, units::text, trim_scale(revenue)::text as revenue
    from event_daily_stats where tenant_id = ${tenantId} order by type`;
  expect([...types]).toEqual([
    { type: "adjustment", events: "1", units: "0", revenue: "0" },
    { type: "purchase", events: "3", units: "1000000003", revenue: "999999999999988936.94" },
    { type: "refund", events: "1", units: "-1", revenue: "7" },
  ]);
  expect(await verify(api, tenantId)).toEqual(CLEAN);
});
