/**
 * Who may do what with whose products: roles, key scopes, X-Seller-Id, other tenants, and whose
 * limit counts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createSeller, domainEvents, pathOf, productInput } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
let seller: string;
let otherSeller: string;
let customer: string;
let analyst: string;
let admin: string;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  const { tenantId } = tenant;
  seller = await createSeller(api, tenantId, "s-1");
  otherSeller = await createSeller(api, tenantId, "s-2");
  customer = (await createPerson(api, tenantId, "customer")).token;
  analyst = (await createPerson(api, tenantId, "analyst")).token;
  admin = (await createPerson(api, tenantId, "admin")).token;
});
afterAll(cleanup);

const call = (as: string, method: string, path: string, json?: object, headers = {}) =>
  api.call(method, path, { as, json, headers });
const create = async (as: string, overrides = {}, headers = {}) =>
  call(as, "POST", "/products", productInput(overrides), headers);
const idsSeen = async (as: string, query: string, headers = {}): Promise<string[]> =>
  (await call(as, "GET", `/products?${query}`, undefined, headers)).body.items.map(
    ({ id }: { id: string }) => id,
  );

/** Every change of an id, with a valid body. */
const CHANGES = [
  ["PATCH", "", { price: 1 }],
  ["PUT", "", { name: "Taken over", price: 1 }],
  ["DELETE", "", undefined],
  ["POST", "/restore", undefined],
] as const;

describe("a seller", () => {
  test("makes products of its own, whatever it leaves out", async () => {
    expect((await create(seller)).body.sellerId).toBe("s-1");
    expect((await create(seller, { sellerId: null })).body.sellerId).toBe("s-1");
    expect((await create(seller, { sellerId: "s-1" })).body.sellerId).toBe("s-1");
    expect((await create(seller, { sellerId: "s-2" })).status).toBe(403);
  });

  test("changes, deletes and restores its own, and can give none away", async () => {
    const { body } = await create(seller);
    const path = pathOf(body.id);
    expect((await call(seller, "PATCH", path, { price: 1 })).status).toBe(200);
    expect((await call(seller, "PUT", path, productInput())).body.sellerId).toBe("s-1");
    expect((await call(seller, "PATCH", path, { sellerId: null })).body.sellerId).toBe("s-1");
    expect((await call(seller, "PATCH", path, { sellerId: "s-2" })).status).toBe(403);
    expect((await call(seller, "PUT", path, productInput({ sellerId: "s-2" }))).status).toBe(403);
    expect((await call(seller, "DELETE", path)).status).toBe(204);
    expect((await call(seller, "POST", `${path}/restore`)).status).toBe(200);
  });

  test("finds another's product nowhere, and leaves it as it is", async () => {
    const { body } = await create(otherSeller, { category: "others", name: "Otherwise" });
    const path = pathOf(body.id);
    expect((await call(seller, "GET", path)).status).toBe(404);
    for (const [method, suffix, json] of CHANGES)
      expect((await call(seller, method, path + suffix, json)).status).toBe(404);
    expect(await idsSeen(seller, "category=others")).toEqual([]);
    expect(await idsSeen(seller, "sellerId=s-2")).toEqual([]);
    expect(await idsSeen(seller, "search=otherwise")).toEqual([]);
    expect((await call(seller, "GET", "/products?category=others&page=1")).body.total).toBe(0);
    const { items } = (await call(seller, "GET", "/products/categories")).body;
    expect(items).toEqual([]);
    expect((await call(otherSeller, "GET", path)).body).toEqual(body);
    expect(await idsSeen(otherSeller, "category=others")).toEqual([body.id]);
    expect((await call(otherSeller, "GET", "/products/categories")).body.items).toEqual([
      { category: "others", products: 1 },
    ]);
  });

  test("whose membership names no seller owns nothing", async () => {
    const { token } = await createPerson(api, tenant.tenantId, "seller", null);
    const { body } = await create(admin, { category: "nobody's" });
    expect((await call(token, "GET", "/products")).status).toBe(403);
    expect((await call(token, "GET", pathOf(body.id))).status).toBe(403);
    expect((await call(token, "PATCH", pathOf(body.id), { price: 1 })).status).toBe(403);
    expect((await create(token)).status).toBe(403);
  });
});

describe("X-Seller-Id", () => {
  const acting = { "x-seller-id": "s-1" };

  test("an admin and a writing key create as the seller, list it, and reach no other's", async () => {
    const writer = await createKey(api, tenant.tenantId, ["products:write"]);
    for (const as of [admin, writer]) {
      expect((await create(as, {}, acting)).body.sellerId).toBe("s-1");
      expect((await create(as, { sellerId: "s-2" }, acting)).status).toBe(403);
    }
    const { body } = await create(otherSeller);
    for (const [method, suffix, json] of CHANGES)
      expect((await call(admin, method, pathOf(body.id) + suffix, json, acting)).status).toBe(404);
    const { body: listed } = await call(admin, "GET", "/products?limit=100", undefined, acting);
    expect(new Set(listed.items.map((item: { sellerId: string }) => item.sellerId))).toEqual(
      new Set(["s-1"]),
    );
  });

  test("without it an admin gives a product to any seller, and takes it back", async () => {
    const { body } = await create(admin, { sellerId: "s-2" });
    expect(body.sellerId).toBe("s-2");
    expect((await call(admin, "PATCH", pathOf(body.id), { sellerId: "s-1" })).body.sellerId).toBe("s-1");
    expect((await call(otherSeller, "GET", pathOf(body.id))).status).toBe(404);
    expect((await call(seller, "GET", pathOf(body.id))).status).toBe(200);
  });

  test("others name none", async () => {
    for (const as of [analyst, customer, await createKey(api, tenant.tenantId, ["products:read"])])
      expect((await call(as, "GET", "/products", undefined, acting)).status).toBe(403);
  });
});

test("customers see the active products only, cached or not", async () => {
  const { body } = await create(admin, { status: "inactive", category: "hidden", name: "Hidden one" });
  const path = pathOf(body.id);
  for (let round = 0; round < 2; round += 1) {
    expect((await call(analyst, "GET", path)).status).toBe(200);
    expect((await call(customer, "GET", path)).status).toBe(404);
  }
  expect(await idsSeen(customer, "category=hidden")).toEqual([]);
  expect(await idsSeen(customer, "status=inactive")).toEqual([]);
  expect(await idsSeen(customer, "search=hidden")).toEqual([]);
  expect((await call(customer, "GET", "/products/categories")).body.items).not.toContainEqual(
    expect.objectContaining({ category: "hidden" }),
  );
  await call(admin, "PATCH", path, { status: "active" });
  expect((await call(customer, "GET", path)).status).toBe(200);
  expect(await idsSeen(customer, "category=hidden")).toEqual([body.id]);
  expect((await call(customer, "GET", "/products/categories")).body.items).toContainEqual({
    category: "hidden",
    products: 1,
  });
});

test("analysts and customers change nothing, keys do what their scope says", async () => {
  const { body } = await create(admin);
  const reader = await createKey(api, tenant.tenantId, ["products:read"]);
  const writer = await createKey(api, tenant.tenantId, ["products:write"]);
  const ingest = await createKey(api, tenant.tenantId, ["events:write", "analytics:read", "orders:write"]);
  const { body: publishable } = await call(admin, "POST", "/api-keys", { name: "web", kind: "publishable" });
  for (const as of [analyst, customer, reader, ingest, publishable.key]) {
    expect((await create(as)).status).toBe(403);
    for (const [method, suffix, json] of CHANGES)
      expect((await call(as, method, pathOf(body.id) + suffix, json)).status).toBe(403);
  }
  for (const as of [writer, ingest, publishable.key])
    for (const path of ["/products", pathOf(body.id), "/products/categories"])
      expect((await call(as, "GET", path)).status).toBe(403);
  expect((await call(reader, "GET", pathOf(body.id))).body).toEqual(body);
  expect((await call(writer, "PATCH", pathOf(body.id), { price: 1 })).status).toBe(200);
});

test("another tenant has its own products of the same ids and skus, and reaches none of ours", async () => {
  const foreign = await createTenant(api);
  const { body } = await create(admin, { id: "shared", sku: "shared", category: "shared", name: "Sharedly" });
  for (const [method, suffix, json] of [["GET", "", undefined] as const, ...CHANGES])
    expect((await call(foreign.key, method, `/products/shared${suffix}`, json)).status).toBe(404);
  expect(await idsSeen(foreign.key, "")).toEqual([]);
  expect(await idsSeen(foreign.key, "search=sharedly")).toEqual([]);
  expect((await call(foreign.key, "GET", "/products/categories")).body.items).toEqual([]);
  const theirs = await create(foreign.key, { id: "shared", sku: "shared", name: "Theirs" });
  expect(theirs.status).toBe(201);
  await call(foreign.key, "DELETE", "/products/shared");
  expect((await call(admin, "GET", "/products/shared")).body).toEqual(body);
  expect((await domainEvents(api, foreign.tenantId)).length).toBe(2);
});

test("whoever acts for a seller counts against the seller's limit", async () => {
  const limited = await createTestApi({ RATE_LIMIT_STANDARD: "3/1h" });
  const { tenantId, key } = await createTenant(limited);
  const tokens = [
    await createSeller(limited, tenantId, "s-1"),
    await createSeller(limited, tenantId, "s-1"),
    await createSeller(limited, tenantId, "s-2"),
  ];
  const read = async (as = "", headers = {}) =>
    (await limited.call("GET", "/products", { as, headers })).status;
  expect([await read(tokens[0]), await read(tokens[1]), await read(key, { "x-seller-id": "s-1" })]).toEqual([
    200, 200, 200,
  ]);
  expect([await read(tokens[0]), await read(tokens[1]), await read(key, { "x-seller-id": "s-1" })]).toEqual([
    429, 429, 429,
  ]);
  expect([await read(tokens[2]), await read(key)]).toEqual([200, 200]);
});
