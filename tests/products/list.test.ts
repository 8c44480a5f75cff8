/**
 * Lists: by cursor or by number and with any page size, their union is the same; filters; search by
 * the index.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { fillCatalogue, productInput } from "./fixtures.ts";

const PRODUCTS = 90;
const RUNS = Number(process.env.PROPERTY_CASES ?? 60);

let api: TestApi;
let tenant: TestTenant;
/** Another tenant with products of the same ids. */
let neighbour: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  [tenant, neighbour] = [await createTenant(api), await createTenant(api)];
  // Few values each, so that every order has ties, and a third of the quantities are unknown.
  for (const { tenantId } of [tenant, neighbour])
    await fillCatalogue(api, tenantId, PRODUCTS, {
      name: "'Tea ' || n % 7",
      price: "n % 5 + 0.25",
      quantity: "case when n % 3 = 0 then null else n % 4 end",
      category: "'category ' || n % 6",
      createdAt: "'2026-01-01T00:00:00Z'::timestamptz + n % 8 * interval '1 ms'",
    });
  await api.sql`update products set deleted_at = now() where tenant_id = ${tenant.tenantId} and id = 'p-1'`;
  await api.sql`update products set status = 'inactive' where tenant_id = ${tenant.tenantId} and id like '%5'`;
  await api.sql`update products set seller_id = 's-' || length(id) where tenant_id = ${tenant.tenantId}`;
});
afterAll(cleanup);

interface Item {
  id: string;
  name: string;
  price: number;
  quantity: number | null;
  createdAt: string;
  category: string;
  status: string;
  sellerId: string;
}

const list = (query: string, as = tenant.key) => api.call("GET", `/products?${query}`, { as });

async function byCursor(query: string, limitOf: () => number): Promise<Item[]> {
  const items: Item[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const { status, body } = await list(
      `${query}&limit=${limitOf()}${cursor === "" ? "" : `&cursor=${cursor}`}`,
    );
    expect(status).toBe(200);
    items.push(...body.items);
    cursor = body.nextCursor;
  }
  return items;
}

async function byPage(query: string, limit: number): Promise<{ items: Item[]; total: number }> {
  const items: Item[] = [];
  for (let page = 1; ; page += 1) {
    const { body } = await list(`${query}&limit=${limit}&page=${page}`);
    expect([body.page, body.limit]).toEqual([page, limit]);
    items.push(...body.items);
    if (body.items.length < limit) return { items, total: body.total };
  }
}

/** The order that is promised, computed here; text as Postgres' C locale has it. */
function sorted(items: Item[], sortBy: keyof Item, descending: boolean): Item[] {
  const sign = descending ? -1 : 1;
  const compare = (a: string | number, b: string | number) => (a < b ? -sign : a > b ? sign : 0);
  return items.toSorted((a, b) => {
    const [x, y] = [a[sortBy], b[sortBy]];
    if (x === null || y === null) {
      if (x !== y) return x === null ? 1 : -1;
    } else if (x !== y) return compare(x, y);
    return compare(a.id, b.id);
  });
}

test(`${RUNS} lists of random filters, orders and page sizes: one union, in the promised order`, async () => {
  const all = await byCursor("", () => 100);
  expect(all.length).toBe(PRODUCTS - 1);
  const filters = fc.record(
    {
      status: fc.constantFrom("active", "inactive"),
      category: fc.nat(6).map((n) => `category ${n}`),
      sellerId: fc.constantFrom("s-3", "s-4", "s-9"),
      minPrice: fc.constantFrom("0", "1.25", "2.26", "9999999999.99"),
      maxPrice: fc.constantFrom("3.25", "4.24", "0.00"),
    },
    { requiredKeys: [] },
  );
  const order = fc.record({
    sortBy: fc.constantFrom("createdAt", "name", "price", "quantity"),
    sortDir: fc.constantFrom("asc", "desc"),
  });
  const sizes = fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 5 });
  const property = fc.asyncProperty(filters, order, sizes, async (filter, { sortBy, sortDir }, limits) => {
    const matching = all.filter(
      (item) =>
        (filter.status === undefined || item.status === filter.status) &&
        (filter.category === undefined || item.category === filter.category) &&
        (filter.sellerId === undefined || item.sellerId === filter.sellerId) &&
        (filter.minPrice === undefined || item.price >= Number(filter.minPrice)) &&
        (filter.maxPrice === undefined || item.price <= Number(filter.maxPrice)),
    );
    const expected = sorted(matching, sortBy as keyof Item, sortDir === "desc");
    const query = new URLSearchParams({ ...filter, sortBy, sortDir }).toString();
    let turn = 0;
    const paged = await byCursor(query, () => limits[turn++ % limits.length] ?? 1);
    expect(paged).toEqual(expected);
    const numbered = await byPage(query, limits[0] ?? 1);
    expect(numbered.items).toEqual(expected);
    expect(numbered.total).toBe(expected.length);
  });
  await fc.assert(property, { numRuns: RUNS });
}, 120_000);

test("a list that changes under its reader shows what stays exactly once", async () => {
  const moving = await createTenant(api);
  await fillCatalogue(api, moving.tenantId, 60, { name: "'Tea ' || n % 4" });
  const seen: string[] = [];
  let cursor = "";
  for (let round = 0; ; round += 1) {
    const { body } = await list(`sortBy=name&limit=7${cursor}`, moving.key);
    seen.push(...body.items.map((item: Item) => item.id));
    // Products that come and go meanwhile are none of p-1 to p-60.
    const json = productInput({ id: `new-${round}`, name: `Tea ${round % 4}` });
    await api.call("POST", "/products", { as: moving.key, json });
    if (round > 2) await api.call("DELETE", `/products/new-${round - 2}`, { as: moving.key });
    if (body.nextCursor === null) break;
    cursor = `&cursor=${body.nextCursor}`;
  }
  const stayed = seen.filter((id) => id.startsWith("p-"));
  expect(stayed.toSorted()).toEqual(Array.from({ length: 60 }, (_, n) => `p-${n + 1}`).toSorted());
});

describe("cursors", () => {
  test("belong to their filters and their order", async () => {
    const { body } = await list("limit=5&category=category%201");
    const cursor = body.nextCursor;
    expect((await list(`limit=9&category=category%201&cursor=${cursor}`)).status).toBe(200);
    expect((await list(`category=category%201&sortDir=desc&sortBy=createdAt&cursor=${cursor}`)).status).toBe(
      200,
    );
    for (const query of [
      "",
      "category=category%202",
      "category=category%201&sortBy=name",
      "category=category%201&sortDir=asc",
      "category=category%201&status=active",
      "category=category%201&search=tea",
    ])
      expect((await list(`${query}&cursor=${cursor}`)).status).toBe(400);
  });

  test("that somebody wrote himself are a 400, whatever they hold", async () => {
    for (const sortBy of ["createdAt", "name", "price", "quantity"]) {
      const { body } = await list(`sortBy=${sortBy}&limit=1`);
      const [fingerprint] = JSON.parse(Buffer.from(body.nextCursor, "base64url").toString());
      for (const place of ["", "x", "1e999", "9".repeat(400), "a\0b", "\ud800", "NaN", "2026-13-45"]) {
        const forged = Buffer.from(JSON.stringify([fingerprint, place, "p-1"])).toString("base64url");
        expect([200, 400]).toContain((await list(`sortBy=${sortBy}&cursor=${forged}`)).status);
      }
    }
    for (const cursor of ["", "x", "e30", "W10", "bnVsbA"])
      expect((await list(`cursor=${cursor}`)).status).toBe(400);
  });
});

test.each([
  "limit=0",
  "limit=101",
  "limit=x",
  "page=0",
  "page=1.5",
  "page=1000000",
  "page=1&cursor=abc",
  "sortBy=id",
  "sortDir=up",
  "status=deleted",
  "minPrice=-1",
  "minPrice=1e3",
  "minPrice=",
  "maxPrice=1.005",
  "maxPrice=NaN",
  "category=",
  "category=a%00b",
  "search=a%00b",
  `search=${"x".repeat(1_001)}`,
  "unknown=1",
])("?%s is a 400", async (query) => {
  expect((await list(query)).status).toBe(400);
});

test("categories are counted, the largest first", async () => {
  const shop = await createTenant(api);
  for (const category of ["tea", "tea", "coffee", "cups", "cups", "cups", null])
    await api.call("POST", "/products", { as: shop.key, json: productInput({ category }) });
  const read = async () => (await api.call("GET", "/products/categories", { as: shop.key })).body.items;
  expect(await read()).toEqual([
    { category: "cups", products: 3 },
    { category: "tea", products: 2 },
    { category: "coffee", products: 1 },
  ]);
});
