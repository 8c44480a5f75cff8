/** Ids of any text, and input that nobody should be able to store. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, startServer } from "../harness.ts";
import { pathOf, productInput } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const call = (method: string, path: string, json?: unknown) =>
  api.call(method, path, { as: tenant.key, json });

const IDS = [
  "A/1",
  "../../etc/passwd",
  "..%2F",
  "%2F",
  "%",
  "%zz",
  "a..b",
  "...",
  "__proto__",
  "constructor",
  "toString",
  "a b",
  "a+b",
  "a?b=c&d",
  "a#b",
  "a;b,c",
  "ß→茶🍵",
  "é",
  "e\u0301",
  "'; drop table products; --",
  "{tag}:cache:x",
  "*",
  "null",
  "restore",
  "x".repeat(128),
  "茶".repeat(128),
];

describe("ids", () => {
  test.each(IDS)("%j works from its creation to its restoration", async (id) => {
    const created = await call("POST", "/products", productInput({ id, category: "ids" }));
    expect([created.status, created.body.id]).toEqual([201, id]);
    expect(created.headers.get("location")).toBe(pathOf(id));
    expect((await call("GET", pathOf(id))).body).toEqual(created.body);
    expect((await call("PATCH", pathOf(id), { price: 1 })).body.id).toBe(id);
    expect((await call("PUT", pathOf(id), productInput({ category: "ids" }))).body.id).toBe(id);
    expect((await call("DELETE", pathOf(id))).status).toBe(204);
    expect((await call("GET", pathOf(id))).status).toBe(404);
    expect((await call("POST", `${pathOf(id)}/restore`)).body).toMatchObject({ id, version: 5 });
  });

  test("are the same over a socket, where URLs are parsed once more", async () => {
    const { url } = await startServer(api.env);
    for (const id of IDS) {
      const response = await fetch(url + pathOf(id), { headers: { "x-api-key": tenant.key } });
      expect([response.status, ((await response.json()) as { id: string }).id]).toEqual([200, id]);
    }
  });

  test("each is itself in a list, page by page", async () => {
    const seen: string[] = [];
    for (let cursor = ""; cursor !== "end"; ) {
      const { body } = await call(
        "GET",
        `/products?category=ids&sortBy=name&limit=2&cursor=${cursor}`.replace(/&cursor=$/, ""),
      );
      seen.push(...body.items.map((one: { id: string }) => one.id));
      cursor = body.nextCursor ?? "end";
    }
    expect(seen.toSorted()).toEqual(IDS.toSorted());
  });

  test.each([
    "",
    " a",
    "a ",
    "\u00a0a",
    "a\nb",
    "a\0",
    "\u007f",
    "\ud800",
    "x".repeat(129),
    ".",
    "..",
    "categories",
    "export",
    "import",
    "imports",
  ])("%j is none", async (id) => {
    const { status, body } = await call("POST", "/products", productInput({ id }));
    expect([status, body.errors[0].path]).toEqual([400, "id"]);
  });

  test.each(["%00", "%0a", "%20a", "%ff", "%E0%A4%A", "x".repeat(2_000), "a%0d%0ab"])(
    "the path /products/%s is a 400 or a 404",
    async (segment) => {
      for (const method of ["GET", "DELETE"])
        expect([400, 404]).toContain((await call(method, `/products/${segment}`)).status);
    },
  );
});

test.each([
  [{ price: -0.01 }, "price"],
  [{ price: 4.955 }, "price"],
  [{ price: 0.1 + 0.2 }, "price"],
  [{ price: 1e-7 }, "price"],
  [{ price: 10_000_000_000 }, "price"],
  [{ price: "4.95" }, "price"],
  [{ price: null }, "price"],
  [{ name: "" }, "name"],
  [{ name: " \n" }, "name"],
  [{ name: null }, "name"],
  [{ name: "a\0b" }, "name"],
  [{ name: "\udc00" }, "name"],
  [{ name: "x".repeat(256) }, "name"],
  [{ sku: "" }, "sku"],
  [{ sku: " a" }, "sku"],
  [{ sku: "x".repeat(101) }, "sku"],
  [{ description: "x".repeat(10_001) }, "description"],
  [{ quantity: -1 }, "quantity"],
  [{ quantity: 1.5 }, "quantity"],
  [{ quantity: 1e9 + 1 }, "quantity"],
  [{ quantity: "1" }, "quantity"],
  [{ lowStockThreshold: -1 }, "lowStockThreshold"],
  [{ category: "a\tb" }, "category"],
  [{ status: "deleted" }, "status"],
  [{ status: null }, "status"],
  [{ imageUrl: "javascript:alert(1)" }, "imageUrl"],
  [{ imageUrl: "/tea.jpg" }, "imageUrl"],
  [{ imageUrl: "https://" }, "imageUrl"],
  [{ sellerId: "x".repeat(101) }, "sellerId"],
  [{ version: 9 }, "version"],
  [{ tenantId: "00000000-0000-7000-8000-00000000dead" }, "tenantId"],
  [{ createdAt: "2020-01-01T00:00:00.000Z" }, "createdAt"],
  [{ deletedAt: null }, "deletedAt"],
  [{ currency: "USD" }, "currency"],
])("%j is refused by POST, PUT and PATCH", async (wrong, path) => {
  const { body } = await call("POST", "/products", productInput());
  for (const answer of [
    await call("POST", "/products", productInput(wrong)),
    await call("PUT", pathOf(body.id), productInput(wrong)),
    await call("PATCH", pathOf(body.id), wrong),
  ])
    expect([answer.status, answer.body.errors?.[0]?.path]).toEqual([400, path]);
  expect((await call("GET", pathOf(body.id))).body).toEqual(body);
});

test("the longest of everything is stored and found", async () => {
  const whole = {
    name: "🍵".repeat(127),
    sku: "茶".repeat(100),
    category: "茶".repeat(100),
    sellerId: "茶".repeat(100),
    id: "🍵".repeat(64),
    description: "ab ".repeat(3_333),
    imageUrl: `https://shop.example/${"x".repeat(2_000)}`,
  };
  const { status, body } = await call("POST", "/products", productInput(whole));
  expect(status).toBe(201);
  expect(body).toMatchObject(whole);
  expect((await call("GET", `/products?category=${encodeURIComponent(whole.category)}`)).body.items).toEqual([
    body,
  ]);
});

test("a body of the other kind is refused", async () => {
  const { status } = await api.call("POST", "/products", {
    as: tenant.key,
    body: "name=tea",
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
  expect(status).toBe(415);
  for (const json of [null, [], "tea", 1]) expect((await call("POST", "/products", json)).status).toBe(400);
});
