/**
 * Rollups outlive raw events: `rebuild` does not erase what retention may have deleted, and
 * `verify` does not report it.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { addDays, dayInZone } from "../../src/core/days.ts";
import { rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import {
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, runFootfall } from "../harness.ts";
import { hashRollups } from "../import/fixtures.ts";

const RETENTION_DAYS = 60;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const EDGE_MS = Date.now() - RETENTION_DAYS * DAY_MS;
/** One in which it is not about midnight. */
const ZONE =
  ["Asia/Tokyo", "America/New_York"].find((zone) => {
    const hour = new Intl.DateTimeFormat("en", { timeZone: zone, hour: "numeric", hourCycle: "h23" });
    return Number(hour.format(EDGE_MS)) % 22 > 1;
  }) ?? "UTC";
const FIRST_WHOLE = addDays(dayInZone(EDGE_MS, ZONE), 1);
const SENTENCE = `rollups before ${FIRST_WHOLE} are kept as they are: raw events are only kept for ${RETENTION_DAYS} days.`;

let api: TestApi;
let tenant: TestTenant;
let counted: string;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

const zoned = () => ({ tenantId: tenant.tenantId, timeZone: ZONE });
const verify = (range = {}) => verifyTenant(api.deps.db.transactions, zoned(), range);
const rebuild = (range = {}) => rebuildTenant(api.deps.db.transactions, zoned(), range);
const run = (...command: string[]) => runFootfall([...command, "--tenant", tenant.slug], api.env);

/** Visitors who come on days before, on and after the edge. */
async function ingest(times: readonly number[]): Promise<void> {
  const events = times.flatMap((timestamp, n) =>
    ["a", "b", "c"].slice(n % 2).map((who) =>
      eventInput({
        timestamp,
        anonymousId: who,
        sessionId: `s-${who}`,
        type: "purchase",
        properties: { quantity: 1, price: 2.5 },
      }),
    ),
  );
  const { body } = await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  expect(body.rejected).toBe(0);
  await rollUpAll(api);
  await api.deps.returnsFolder.fold();
}

async function hashAll(): Promise<string> {
  const pairs =
    await api.sql`select subject, day::text, previous_day::text, members::text from daily_return_stats
    where tenant_id = ${tenant.tenantId} and members <> 0 order by 1, 2, 3`;
  return JSON.stringify([await hashRollups(api.sql, tenant.tenantId), pairs]);
}

beforeEach(async () => {
  tenant = await createTenant(api, { time_zone: ZONE });
  const days = [-75, -40, -39, -3, 1, 2, 20, 40, 55].map((day) => EDGE_MS + day * DAY_MS);
  // Two halves of the day of the edge.
  await ingest([...days, EDGE_MS - HOUR_MS / 2, EDGE_MS + HOUR_MS / 2]);
  counted = await hashAll();
  await api.sql`update tenants set event_retention_days = ${RETENTION_DAYS} where id = ${tenant.tenantId}`;
  await api.sql`delete from events where tenant_id = ${tenant.tenantId} and ts < ${new Date(EDGE_MS).toISOString()}`;
});

test("verify reports nothing, and rebuild erases nothing, of what retention has taken", async () => {
  const kept = { before: FIRST_WHOLE, retentionDays: RETENTION_DAYS };
  const ranges = [{}, { from: "2020-01-01" }, { from: "2020-01-01", to: FIRST_WHOLE }, { to: FIRST_WHOLE }];
  for (const range of ranges) {
    expect(await verify(range)).toMatchObject({ differences: [], differing: 0, kept });
    expect(await rebuild(range)).toMatchObject({ kept });
    expect(await hashAll()).toBe(counted);
  }
  expect(await rebuild({ from: FIRST_WHOLE })).toMatchObject({ kept: null });
  expect(await rebuild({ from: "2020-01-01", to: addDays(FIRST_WHOLE, -1) })).toEqual({ months: 0, kept });
  expect(await hashAll()).toBe(counted);
}, 30_000);

test("what is wrong within the retention is found and mended, periods and pairs with it", async () => {
  const { tenantId } = tenant;
  const within = api.sql`tenant_id = ${tenantId} and day >= ${FIRST_WHOLE}`;
  await api.sql`update product_daily_stats set revenue = revenue + 1 where ${within}`;
  await api.sql`delete from user_daily_stats where ${within}`;
  await api.sql`update product_period_stats set events = events + 1 where tenant_id = ${tenantId} and start >= ${FIRST_WHOLE}`;
  await api.sql`update daily_return_stats set members = members + 1 where tenant_id = ${tenantId}`;
  expect((await verify()).differing).toBeGreaterThan(0);
  await rebuild();
  expect(await hashAll()).toBe(counted);
  expect((await verify()).differing).toBe(0);
}, 30_000);

test("the commands say which days were left alone", async () => {
  const verified = await run("verify");
  expect(verified).toMatchObject({ exitCode: 0 });
  expect(verified.stdout).toContain(SENTENCE);
  const rebuilt = await run("rebuild", "--from", "2020-01-01");
  expect(rebuilt).toMatchObject({ exitCode: 0 });
  expect(rebuilt.stdout).toContain(SENTENCE);
  expect(await hashAll()).toBe(counted);
}, 30_000);

test("a time zone can't change where days of the old one would be left", async () => {
  const refused = await run("rebuild", "--time-zone", "Europe/Berlin");
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain("The time zone can't change");
  expect(await hashAll()).toBe(counted);
  const [row] = await api.sql`select time_zone from tenants where id = ${tenant.tenantId}`;
  expect(row?.time_zone).toBe(ZONE);
}, 30_000);

test("a tenant younger than its retention changes its time zone", async () => {
  tenant = await createTenant(api, { time_zone: ZONE, event_retention_days: RETENTION_DAYS });
  await ingest([5, 20, 30].map((day) => EDGE_MS + day * DAY_MS));
  const { exitCode, stdout } = await run("rebuild", "--time-zone", "Europe/Berlin");
  expect(exitCode).toBe(0);
  expect(stdout).not.toContain("kept");
  const moved = { tenantId: tenant.tenantId, timeZone: "Europe/Berlin" };
  expect(await verifyTenant(api.deps.db.transactions, moved, {})).toMatchObject({ differing: 0, kept: null });
}, 30_000);
