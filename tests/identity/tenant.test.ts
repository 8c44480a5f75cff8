import { afterAll, beforeAll, expect, test } from "bun:test";
import { createPerson, createTenant, createTestApi, eventInput, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

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
    eventRetentionDays: null,
  });
  expect((await change(token, { name: "Mine" })).status).toBe(403);
  const all = {
    name: "Käse & Söhne",
    timeZone: "Europe/Berlin",
    currency: "CHF",
    lowStockThreshold: 0,
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
