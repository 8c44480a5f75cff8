/** An answer that does not show everything says so, and its cursor continues where it ended. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, rollUpAll, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";

const WEEKS = 13;
const PRODUCTS = 20;
const DAY_MS = 86_400_000;

let api: TestApi;
let shop: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  shop = await createTenant(api);
  const nowMs = Date.now();
  const events = Array.from({ length: WEEKS * PRODUCTS }, (_, n) => ({
    ...{ type: "purchase", productId: `p-${String(n % PRODUCTS).padStart(2, "0")}`, anonymousId: "a" },
    timestamp: nowMs - Math.floor(n / PRODUCTS) * 7 * DAY_MS,
    // Ties in plenty.
    properties: { quantity: 1 + (n % 3), price: 2.5, country: `C${n % PRODUCTS}` },
  }));
  const { status } = await api.call("POST", "/events/bulk", { as: shop.key, json: { events } });
  expect(status).toBe(202);
  await rollUpAll(api);
});
afterAll(cleanup);

const query = (json: Record<string, unknown>) => api.call("POST", "/analytics/query", { as: shop.key, json });
const get = async (path: string) => (await api.call("GET", path, { as: shop.key })).body;

describe("README's question, week by product over 90 days", () => {
  const question = { metrics: ["revenue", "units"], dimensions: ["week", "product"], days: 90 };

  test("begins with the newest week and says that it is cut", async () => {
    const { body } = await query(question);
    const weeks = [...new Set(body.rows.map(({ week }: { week: string }) => week))] as string[];
    expect(body.rows).toHaveLength(100);
    expect(weeks).toEqual(weeks.toSorted().reverse());
    expect(Date.now() - Date.parse(weeks[0] as string)).toBeLessThan(8 * DAY_MS);
    expect(body).toMatchObject({ truncated: true, nextCursor: expect.any(String) });
  });

  test.each([
    ["by default", {}],
    ["by units, which tie", { sort: { by: "units", direction: "desc" } }],
    ["the oldest first", { sort: { by: "week", direction: "asc" } }],
    ["by product", { sort: { by: "product", direction: "desc" } }],
  ])("%s, its pages are the whole answer, each row once", async (_, sort) => {
    const whole = (await query({ ...question, ...sort, limit: 1_000 })).body;
    expect(whole).toMatchObject({ truncated: false, nextCursor: null });
    expect(whole.rows).toHaveLength(WEEKS * PRODUCTS);
    const rows: unknown[] = [];
    let cursor: string | undefined;
    do {
      const { status, body } = await query({ ...question, ...sort, limit: 33, cursor });
      expect(status).toBe(200);
      rows.push(...body.rows);
      expect(body.truncated).toBe(body.nextCursor !== null);
      cursor = body.nextCursor ?? undefined;
    } while (cursor);
    expect(rows).toEqual(whole.rows);
  });

  test("the best products page by one sum, too", async () => {
    const best = { metrics: ["revenue", "units"], dimensions: ["product"], days: 90 };
    const whole = (await query(best)).body.rows;
    expect(whole).toHaveLength(PRODUCTS);
    const first = (await query({ ...best, limit: 7 })).body;
    const second = (await query({ ...best, limit: 20, cursor: first.nextCursor })).body;
    expect([...first.rows, ...second.rows]).toEqual(whole);
    expect(second).toMatchObject({ truncated: false, nextCursor: null });
  });

  test("a cursor is refused for any other question, and when it is forged", async () => {
    const { nextCursor: cursor } = (await query({ ...question, limit: 5 })).body;
    for (const other of [
      { days: 89 },
      { metrics: ["units", "revenue"] },
      { dimensions: ["product", "week"] },
      { dimensions: ["month", "product"] },
      { filters: { productId: ["p-00"] } },
      { sort: { by: "revenue", direction: "desc" } },
      { timeZone: "Europe/Berlin" },
    ]) {
      const { status, body } = await query({ ...question, ...other, cursor });
      expect(`${JSON.stringify(other)} ${status}`).toBe(`${JSON.stringify(other)} 400`);
      expect(body.errors[0]).toMatchObject({ path: "cursor", code: "invalid_cursor" });
    }
    const parts = JSON.parse(Buffer.from(cursor, "base64url").toString());
    for (const forged of [
      parts.with(1, "2026-02-30"),
      parts.with(3, "soon"),
      parts.with(4, "\0"),
      [...parts, "x"],
      parts.slice(0, -1),
    ]) {
      const text = Buffer.from(JSON.stringify(forged)).toString("base64url");
      expect((await query({ ...question, cursor: text })).status).toBe(400);
    }
    expect((await query({ ...question, limit: 900, cursor })).status).toBe(200);
  });
});

test("a breakdown says that it is cut, and goes on", async () => {
  const path = "/analytics/breakdown?property=country&days=90&sortBy=units";
  const whole = await get(`${path}&limit=50`);
  expect(whole).toMatchObject({ truncated: false, nextCursor: null });
  expect(whole.items).toHaveLength(PRODUCTS);
  const first = await get(`${path}&limit=12`);
  expect([first.truncated, typeof first.nextCursor]).toEqual([true, "string"]);
  const second = await get(`${path}&limit=12&cursor=${first.nextCursor}`);
  expect(second).toMatchObject({ truncated: false, nextCursor: null });
  expect([...first.items, ...second.items]).toEqual(whole.items);
  const other = path.replace("units", "revenue");
  const answer = await api.call("GET", `${other}&cursor=${first.nextCursor}`, { as: shop.key });
  expect(answer.status).toBe(400);
});

test("top products and products now say that they are cut", async () => {
  expect(await get("/analytics/products/top?days=90&limit=19")).toMatchObject({ truncated: true });
  expect(await get("/analytics/products/top?days=90&limit=20")).toMatchObject({ truncated: false });
  const now = await get("/analytics/realtime?skipCache=true");
  expect(now.topProducts).toHaveLength(10);
  expect(now.topProductsTruncated).toBe(true);
});

test("a shop with more than a thousand categories is told so", async () => {
  const { tenantId, key } = await createTenant(api);
  const read = async () => (await api.call("GET", "/products/categories", { as: key })).body;
  const insert = (from: number, to: number) => api.sql`
    insert into products (tenant_id, id, name, price, category, created_at, updated_at)
    select ${tenantId}, 'p-' || n, 'name', 1, 'c-' || n, now(), now() from generate_series(${from}::int, ${to}::int) n`;
  await insert(1, 1_000);
  expect(await read()).toMatchObject({ truncated: false });
  await insert(1_001, 1_001);
  await api.call("DELETE", "/cache/clear", { as: key });
  const { items, truncated } = await read();
  expect([items.length, truncated]).toEqual([1_000, true]);
});
