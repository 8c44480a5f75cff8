import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { addDays } from "../../src/core/days.ts";
import { verifyTenant } from "../../src/features/rollups/index.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

const change = (as: string, json: object) => api.call("PATCH", "/tenants/current", { as, json });
const read = async (as: string) => (await api.call("GET", "/tenants/current", { as })).body;

test("everybody reads the settings, an admin changes them one by one or all", async () => {
  const { tenantId, key, slug } = await createTenant(api);
  const { token } = await createPerson(api, tenantId, "customer");
  const before = await read(token);
  expect(before).toEqual({
    id: tenantId,
    slug,
    name: expect.any(String),
    timeZone: "UTC",
    currency: "EUR",
    lowStockThreshold: 5,
    trustedSales: false,
    exchangeRates: [],
    eventRetentionDays: null,
  });
  expect((await change(token, { name: "Mine" })).status).toBe(403);
  const all = {
    name: "Käse & Söhne",
    timeZone: "Europe/Berlin",
    currency: "CHF",
    lowStockThreshold: 0,
    trustedSales: true,
    exchangeRates: [{ currency: "USD", from: "2026-01-01", rate: "0.92" }],
    eventRetentionDays: 400,
  };
  expect((await change(key, all)).body).toEqual({ ...before, ...all });
  expect((await change(key, { eventRetentionDays: null })).body).toEqual({
    ...before,
    ...all,
    eventRetentionDays: null,
  });
  expect(await read(token)).toEqual({ ...before, ...all, eventRetentionDays: null });
});

test.each([
  {},
  { slug: "mine" },
  { id: "mine" },
  { name: " " },
  { name: "a\0b" },
  { timeZone: "Mars/Olympus" },
  { timeZone: "+02:00" },
  { timeZone: "'; drop table tenants; --" },
  { currency: "euro" },
  { currency: "eur" },
  { lowStockThreshold: -1 },
  { trustedSales: "true" },
  { lowStockThreshold: 1.5 },
  { lowStockThreshold: 1e300 },
  { eventRetentionDays: 0 },
  { eventRetentionDays: "400" },
])("refuses %j", async (json) => {
  const { key } = await createTenant(api);
  const before = await read(key);
  expect((await change(key, json)).status).toBe(400);
  expect(await read(key)).toEqual(before);
});

test("once there are events, their days stay in the time zone they were counted in", async () => {
  const { key } = await createTenant(api);
  await api.call("POST", "/events", { as: key, json: eventInput() });
  expect((await change(key, { timeZone: "Asia/Tokyo" })).status).toBe(409);
  expect((await change(key, { timeZone: "UTC", name: "Same zone" })).status).toBe(200);
});

test("nor does the zone change when retention has taken the events and left what was counted", async () => {
  const { tenantId, key } = await createTenant(api);
  await api.call("POST", "/events", { as: key, json: eventInput() });
  await rollUpAll(api);
  await api.sql`delete from events where tenant_id = ${tenantId}`;
  expect((await change(key, { timeZone: "Asia/Tokyo" })).status).toBe(409);
});

describe("a time zone that changes while the first event comes", () => {
  const FIRST = { timestamp: new Date(Date.now() - 86_400_000).toISOString().replace(/T.*/, "T20:00:00Z") };

  /** Sessions of this test's database that wait for a lock on a table. */
  const waiting = async () => {
    const [row] = await api.sql`select count(*)::int as n from pg_locks
      where not granted and locktype = 'relation' and database = (select oid from pg_database where datname = current_database())`;
    return row?.n as number;
  };

  test("before the event's rollup: it is counted in the new zone", async () => {
    const { tenantId, key } = await createTenant(api);
    const inFlight: Promise<unknown>[] = [];
    const changed = await api.sql.begin(async (tx) => {
      // Holds the change at its last statement: it has looked for events and has not committed.
      await tx`lock table audit_log in access exclusive mode`;
      const answer = change(key, { timeZone: "Asia/Tokyo" });
      await eventually(async () => (await waiting()) === 1);
      expect((await api.call("POST", "/events", { as: key, json: eventInput(FIRST) })).status).toBe(202);
      const batches = await api.deps.rollups.findOverdue(-1_000, 200);
      const done = { yet: false };
      inFlight.push(api.deps.rollups.rollUp(batches).finally(() => Object.assign(done, { yet: true })));
      // Either it waits for the change, or it has counted the event in the old zone.
      await eventually(async () => done.yet || (await waiting()) === 2);
      return { answer };
    });
    expect((await changed.answer).status).toBe(200);
    await Promise.all(inFlight);
    const [day] = await api.sql`select day::text from product_daily_stats where tenant_id = ${tenantId}`;
    expect(day?.day).toBe(addDays(FIRST.timestamp.slice(0, 10), 1));
    const zone = { tenantId, timeZone: "Asia/Tokyo" };
    expect(await verifyTenant(api.deps.db.transactions, zone, {})).toMatchObject({
      differing: 0,
      waiting: 0,
    });
  });

  test("while the change waits for other rollups: it looks again, and is refused", async () => {
    const { key } = await createTenant(api);
    const changed = await api.sql.begin(async (tx) => {
      // As a rollup of somebody else's events does.
      await tx`lock table product_daily_stats in row exclusive mode`;
      const answer = change(key, { timeZone: "Asia/Tokyo" });
      await eventually(async () => (await waiting()) === 1);
      await api.call("POST", "/events", { as: key, json: eventInput(FIRST) });
      return { answer };
    });
    expect((await changed.answer).status).toBe(409);
    await rollUpAll(api);
  });

  test("after its rollup began: it is refused", async () => {
    const { tenantId, key } = await createTenant(api);
    let rolledUp: Promise<number> | undefined;
    await api.sql.begin(async (tx) => {
      // Holds the rollup in its middle: it has read the zone and has not committed.
      await tx`lock table ingest_hourly_stats in access exclusive mode`;
      await api.call("POST", "/events", { as: key, json: eventInput(FIRST) });
      rolledUp = api.deps.rollups.rollUp(await api.deps.rollups.findOverdue(-1_000, 200));
      await eventually(async () => (await waiting()) === 1);
      expect((await change(key, { timeZone: "Asia/Tokyo" })).status).toBe(409);
    });
    await rolledUp;
    const [day] = await api.sql`select day::text from product_daily_stats where tenant_id = ${tenantId}`;
    expect(day?.day).toBe(FIRST.timestamp.slice(0, 10));
  });
});

test("changes at once are one after the other: none is lost", async () => {
  const { key } = await createTenant(api);
  const changes = [
    { name: "New" },
    { currency: "USD" },
    { lowStockThreshold: 9 },
    { eventRetentionDays: 30 },
  ];
  await Promise.all(changes.map((json) => change(key, json)));
  expect(await read(key)).toMatchObject(Object.assign({}, ...changes));
});
