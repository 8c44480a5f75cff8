/** Making, reading, changing, deleting and restoring products. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { pathOf, productInput } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const call = (method: string, path: string, json?: object, headers = {}) =>
  api.call(method, path, { as: tenant.key, json, headers });
const create = (overrides = {}, headers = {}) => call("POST", "/products", productInput(overrides), headers);

describe("POST /products", () => {
  test("answers the whole product, where it is and its version", async () => {
    const { status, headers, body } = await create({ id: "tea/1", sku: "T-1", quantity: 3 });
    expect(status).toBe(201);
    expect(headers.get("location")).toBe("/products/tea%2F1");
    expect(headers.get("etag")).toBe('"1-EUR"');
    expect(body).toEqual({
      id: "tea/1",
      sellerId: null,
      sku: "T-1",
      name: "Green tea",
      description: null,
      price: 4.95,
      currency: "EUR",
      quantity: 3,
      category: null,
      imageUrl: null,
      status: "active",
      lowStockThreshold: null,
      version: 1,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      updatedAt: body.createdAt,
    });
    expect((await call("GET", headers.get("location") ?? "")).body).toEqual(body);
    expect((await call("GET", `/api${headers.get("location")}`)).body).toEqual(body);
  });

  test("makes a UUIDv7 where the client names no id", async () => {
    const { body } = await create();
    expect(body.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  });

  test("an id or a sku is taken once among live products; case counts", async () => {
    await create({ id: "Taken", sku: "SKU-taken" });
    const byId = await create({ id: "Taken" });
    expect([byId.status, byId.body.errors[0].path]).toEqual([409, "id"]);
    const bySku = await create({ sku: "SKU-taken" });
    expect([bySku.status, bySku.body.errors[0].path]).toEqual([409, "sku"]);
    expect((await create({ id: "taken", sku: "sku-TAKEN" })).status).toBe(201);
  });

  test("an Idempotency-Key makes one product, and its replay says so", async () => {
    const headers = { "idempotency-key": "create-once" };
    const [first, again] = [await create({ sku: "once" }, headers), await create({ sku: "once" }, headers)];
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(again.headers.get("location")).toBe(first.headers.get("location"));
    expect((await create({ sku: "other" }, headers)).status).toBe(422);
  });
});

test.each([
  0, 0.01, 0.1, 0.29, 1.1, 4.35, 19.99, 1_000_000.07, 90_071_992.54, 1_234_567_890.12, 9_999_999_999.99,
])("the price %d comes back to the cent", async (price) => {
  const { body } = await create({ price });
  const [row] = await api.sql`select price::text from products where id = ${body.id}`;
  expect(row?.price).toBe(price.toFixed(2));
  expect((await call("GET", pathOf(body.id))).body.price).toBe(price);
});

describe("PUT and PATCH", () => {
  test("PUT replaces the whole: what is left out is null", async () => {
    const { body } = await create({ sku: "whole", quantity: 4, category: "tea", status: "inactive" });
    const after = await call("PUT", pathOf(body.id), { name: "Black tea", price: 3 });
    expect(after.status).toBe(200);
    expect(after.body).toEqual({
      ...body,
      name: "Black tea",
      price: 3,
      sku: null,
      quantity: null,
      category: null,
      status: "active",
      version: 2,
      updatedAt: after.body.updatedAt,
    });
    expect(after.headers.get("etag")).toBe('"2-EUR"');
    expect((await call("PUT", pathOf(body.id), { name: "Black tea" })).status).toBe(400);
  });

  test("PATCH changes what it names, and null clears", async () => {
    const { body } = await create({ description: "Leaves", category: "tea", quantity: 1, sku: "part" });
    const after = await call("PATCH", pathOf(body.id), { category: null, price: 5, lowStockThreshold: 2 });
    expect(after.body).toEqual({
      ...body,
      category: null,
      price: 5,
      lowStockThreshold: 2,
      version: 2,
      updatedAt: after.body.updatedAt,
    });
    const cleared = await call("PATCH", pathOf(body.id), {
      description: null,
      quantity: null,
      sku: null,
      lowStockThreshold: null,
    });
    expect(cleared.body).toMatchObject({
      description: null,
      quantity: null,
      sku: null,
      lowStockThreshold: null,
      version: 3,
    });
  });

  test("what changes nothing makes no version", async () => {
    const { body } = await create({ description: "Leaves" });
    for (const json of [{}, { price: 4.95 }, { description: "Leaves", status: "active" }])
      expect((await call("PATCH", pathOf(body.id), json)).body).toEqual(body);
    const { id, currency, version, createdAt, updatedAt, ...whole } = body;
    expect((await call("PUT", pathOf(id), whole)).body).toEqual(body);
  });

  test("a sku that another one has is a 409 and changes nothing", async () => {
    await create({ sku: "first" });
    const { body } = await create({ sku: "second" });
    expect((await call("PATCH", pathOf(body.id), { sku: "first", price: 1 })).status).toBe(409);
    expect((await call("GET", pathOf(body.id))).body).toEqual(body);
  });

  test("there is nothing to change where there is no product", async () => {
    expect((await call("PATCH", "/products/absent", { price: 1 })).status).toBe(404);
    expect((await call("PUT", "/products/absent", productInput())).status).toBe(404);
    expect((await call("DELETE", "/products/absent")).status).toBe(404);
    expect((await call("POST", "/products/absent/restore")).status).toBe(404);
  });
});

describe("If-Match and If-None-Match", () => {
  test("a change that expects another version is a 412 and changes nothing", async () => {
    const { body } = await create();
    const path = pathOf(body.id);
    for (const [method, target, json] of [
      ["PATCH", path, { price: 1 }],
      ["PUT", path, productInput({ price: 1 })],
      ["DELETE", path, undefined],
      ["POST", `${path}/restore`, undefined],
    ] as const)
      for (const tag of ['"2-EUR"', '"0"', "1", "rubbish", '""', ""]) {
        const { status } = await call(method, target, json, { "if-match": tag });
        expect(`${method} ${tag}: ${status}`).toBe(`${method} ${tag}: 412`);
      }
    expect((await call("GET", path)).body).toEqual(body);
  });

  test.each(['"1-EUR"', 'W/"1-EUR"', '"1"', '"7", "1-EUR"', "*"])(
    "If-Match %s takes version 1",
    async (tag) => {
      const { body } = await create();
      const { status } = await call("PATCH", pathOf(body.id), { price: 1 }, { "if-match": tag });
      expect(status).toBe(200);
    },
  );

  test("a read with the ETag that it gave is a 304 until something changes", async () => {
    const { body } = await create();
    const read = (headers = {}) => call("GET", pathOf(body.id), undefined, headers);
    const etag = (await read()).headers.get("etag") ?? "";
    const unchanged = await read({ "if-none-match": etag });
    expect([unchanged.status, unchanged.body]).toEqual([304, ""]);
    expect((await read({ "if-none-match": '"9-EUR"' })).status).toBe(200);
    await call("PATCH", pathOf(body.id), { price: 1 });
    expect((await read({ "if-none-match": etag })).status).toBe(200);
  });
});

describe("DELETE and restore", () => {
  test("a deleted product is gone from every read, keeps its id and frees its sku", async () => {
    const { body } = await create({ id: "gone", sku: "gone-sku", category: "gone-category" });
    expect((await call("DELETE", "/products/gone")).status).toBe(204);
    expect((await call("GET", "/products/gone")).status).toBe(404);
    expect((await call("DELETE", "/products/gone")).status).toBe(404);
    expect((await call("PATCH", "/products/gone", { price: 1 })).status).toBe(404);
    expect((await call("GET", "/products?category=gone-category")).body.items).toEqual([]);
    const again = await create({ id: "gone" });
    expect([again.status, again.body.detail]).toEqual([409, expect.stringContaining("restore")]);
    const restored = await call("POST", "/products/gone/restore");
    expect(restored.status).toBe(200);
    expect(restored.body).toEqual({ ...body, version: 3, updatedAt: restored.body.updatedAt });
    expect((await call("GET", "/products/gone")).body).toEqual(restored.body);
    expect((await call("POST", "/products/gone/restore")).body).toEqual(restored.body);
  });

  test("a sku that was taken meanwhile keeps it from coming back", async () => {
    const { body } = await create({ sku: "moved" });
    await call("DELETE", pathOf(body.id));
    const { body: heir } = await create({ sku: "moved" });
    const refused = await call("POST", `${pathOf(body.id)}/restore`);
    expect([refused.status, refused.body.errors[0].path]).toEqual([409, "sku"]);
    expect((await call("GET", pathOf(body.id))).status).toBe(404);
    await call("PATCH", pathOf(heir.id), { sku: null });
    expect((await call("POST", `${pathOf(body.id)}/restore`)).status).toBe(200);
  });

  test("If-Match of a restore names the version of the deletion", async () => {
    const { body } = await create();
    await call("DELETE", pathOf(body.id));
    const restore = (tag: string) =>
      call("POST", `${pathOf(body.id)}/restore`, undefined, { "if-match": tag });
    expect((await restore('"1"')).status).toBe(412);
    expect((await restore('"2"')).status).toBe(200);
  });
});

test("the tenant's currency is every product's, at once in ETags too", async () => {
  const other = await createTenant(api);
  await api.sql`update tenants set currency = 'JPY' where id = ${other.tenantId}`;
  const { body, headers } = await api.call("POST", "/products", { as: other.key, json: productInput() });
  expect([body.currency, headers.get("etag")]).toEqual(["JPY", '"1-JPY"']);
});
