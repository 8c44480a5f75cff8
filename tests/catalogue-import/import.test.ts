/**
 * What a CSV file does to the catalogue: new products, updates, bad rows, duplicates, sellers,
 * events, cache tags.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { PRODUCTS_TAG, productTag } from "../../src/cache/tags.ts";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { addWebhook, importCsv, readOutbox, readProducts, upload, workOff } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const HEADER = "id,sku,name,description,price,quantity,category,imageUrl,status,sellerId\n";
const products = () => readProducts(api, tenant.tenantId);
const run = (text: string, headers = {}) => importCsv(api, tenant.key, text, headers);
const names = async () => (await products()).map(({ id, name }) => [id, name]);

describe("rows", () => {
  test("become products, field by field", async () => {
    const text = `${HEADER}p-1,s-1,Tea,"Black, ""strong""",4.5,10,Drinks,https://example.com/t.jpg,inactive,anna\np-2,,Mug,,0,,,,,\n`;
    const report = await run(text);
    expect(report).toEqual({
      id: expect.any(String),
      status: "succeeded",
      rows: 2,
      created: 2,
      updated: 0,
      failed: 0,
      bytes: text.length,
      position: text.length,
      error: null,
      errors: [],
      createdAt: expect.any(String),
      finishedAt: expect.any(String),
    });
    expect([...(await products())]).toEqual([
      {
        id: "p-1",
        seller_id: "anna",
        sku: "s-1",
        name: "Tea",
        description: 'Black, "strong"',
        price: "4.50",
        quantity: 10,
        category: "Drinks",
        image_url: "https://example.com/t.jpg",
        status: "inactive",
        version: 1,
        deleted: false,
      },
      {
        id: "p-2",
        seller_id: null,
        sku: null,
        name: "Mug",
        description: null,
        price: "0.00",
        quantity: null,
        category: null,
        image_url: null,
        status: "active",
        version: 1,
        deleted: false,
      },
    ]);
  });

  test("are read through BOM, CRLF, quoted line ends, blank lines and a last line without an end", async () => {
    const text =
      '\ufeffid,name,price\r\n\r\n1,"Zwei\r\nZeilen, ""so""",1\r\n2,Größe 👩‍👩‍👧,2.50\r\n\r\n3,last,3';
    expect(await run(text)).toMatchObject({ rows: 3, created: 3, failed: 0 });
    expect(await names()).toEqual([
      ["1", 'Zwei\r\nZeilen, "so"'],
      ["2", "Größe 👩‍👩‍👧"],
      ["3", "last"],
    ]);
  });

  test("without an id get one; by sku they find their product again", async () => {
    await run("sku,name,price\ns-1,one,1\ns-2,two,2\n");
    const before = await products();
    for (const { id } of before) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    expect(await run("sku,name,price\ns-2,two!,2\ns-3,three,3\n")).toMatchObject({ created: 1, updated: 1 });
    const after = await products();
    expect(after.find(({ sku }) => sku === "s-2")).toMatchObject({
      id: before.find(({ sku }) => sku === "s-2")?.id,
      name: "two!",
      version: 2,
    });
    expect(after.length).toBe(3);
  });

  test("that change nothing count, and bump no version", async () => {
    const text = `${HEADER}p-1,s-1,Tea,x,4.50,10,Drinks,https://example.com/t.jpg,active,anna\n`;
    await run(text);
    await addWebhook(api, tenant.tenantId);
    expect(await run(text.replace("4.50", "04.5"))).toMatchObject({ rows: 1, updated: 1, created: 0 });
    expect((await products())[0]?.version).toBe(1);
    expect((await readOutbox(api, tenant.tenantId)).map(({ topic }) => topic)).toEqual([
      "import.finished",
      "import.finished",
    ]);
  });

  test("keep what the file has no column for, and clear what it leaves empty", async () => {
    await run(`${HEADER}p-1,s-1,Tea,x,4.50,10,Drinks,https://example.com/t.jpg,inactive,anna\n`);
    await run("id,name,price,category,description\np-1,Green tea,5,,y\n");
    expect((await products())[0]).toMatchObject({
      sku: "s-1",
      name: "Green tea",
      description: "y",
      price: "5.00",
      quantity: 10,
      category: null,
      status: "inactive",
      seller_id: "anna",
      version: 2,
    });
  });

  test("that are bad stop no good one, and say where and why", async () => {
    const long = "x".repeat(256);
    const report = await run(
      [
        "id,sku,name,price,quantity,imageUrl,status",
        "1,,ok,1,,,",
        "2,,,1,,,",
        "3,,name,-1,,,",
        "4,,name,1.999,,,",
        "5,,name,10000000000,,,",
        "6,,name,1e3,,,",
        "7,,name,1,1000000001,,",
        "8,,name,1,1.5,,",
        "9,,name,1,,ftp://example.com/x,",
        "10,,name,1,,,sold",
        "import,,name,1,,,",
        " 12,,name,1,,,",
        `13,,${long},1,,,`,
        "14,name,1",
        '15,,a"b,1,,,',
        '16,,"two\nlines",,,,',
        "17,,ok,9999999999.99,1000000000,https://example.com,active",
        "",
      ].join("\n"),
    );
    expect(report).toMatchObject({ status: "succeeded", rows: 17, created: 2, updated: 0, failed: 15 });
    expect(report.errors.map(({ line, path }: { line: number; path: string }) => [line, path])).toEqual([
      [3, "name"],
      [4, "price"],
      [5, "price"],
      [6, "price"],
      [7, "price"],
      [8, "quantity"],
      [9, "quantity"],
      [10, "imageUrl"],
      [11, "status"],
      [12, "id"],
      [13, "id"],
      [14, "name"],
      [15, ""],
      [16, ""],
      [17, "price"],
    ]);
    expect(report.errors[12].message).toBe("has 3 values where the header has 7");
    expect((await names()).map(([id]) => id)).toEqual(["1", "17"]);
  });
});

describe("the same product in several rows of a batch", () => {
  test("the last one wins, in one write, and each row counts once", async () => {
    const report = await run(
      "id,sku,name,price\n1,a,first,1\n2,b,other,1\n1,a,second,2\n,b,third,3\n1,a,last,4\n",
    );
    expect(report).toMatchObject({ rows: 5, created: 2, updated: 3, failed: 0 });
    expect((await products()).map(({ id, name, price, version }) => [id, name, price, version])).toEqual([
      ["1", "last", "4.00", 1],
      ["2", "third", "3.00", 1],
    ]);
  });

  test("a sku that another live product has is refused, also one that an earlier row took", async () => {
    await run("id,sku,name,price\n1,a,one,1\n");
    const report = await run("id,sku,name,price\n2,a,thief,1\n3,c,three,1\n4,c,thief,1\n1,a,still,1\n");
    expect(report).toMatchObject({ rows: 4, created: 1, updated: 1, failed: 2 });
    expect(report.errors).toEqual([
      { line: 2, path: "sku", message: "belongs to another product" },
      { line: 4, path: "sku", message: "belongs to another product" },
    ]);
  });

  test("a sku moves on to another product, in either order of their ids", async () => {
    await run("id,sku,name,price\n1,a,one,1\n2,b,two,1\n3,c,three,1\n");
    const report = await run("id,sku,name,price\n2,b2,two,1\n1,b,one,1\n3,a,three,1\n");
    expect(report).toMatchObject({ rows: 3, created: 0, updated: 3, failed: 0 });
    expect((await products()).map(({ id, sku }) => [id, sku])).toEqual([
      ["1", "b"],
      ["2", "b2"],
      ["3", "a"],
    ]);
  });
});

test("a deleted product comes back by its id, and not by its sku", async () => {
  await run("id,sku,name,price\n1,a,one,1\n2,b,two,1\n");
  await api.sql`update products set deleted_at = now() where tenant_id = ${tenant.tenantId}`;
  await addWebhook(api, tenant.tenantId);
  expect(await run("id,sku,name,price\n1,a,back,1\n,b,new,1\n2,b,clash,1\n")).toMatchObject({
    created: 1,
    updated: 1,
    failed: 1,
  });
  const live = (await products()).filter(({ deleted }) => !deleted);
  expect(live.map(({ sku, name, version }) => [sku, name, version]).sort()).toEqual([
    ["a", "back", 2],
    ["b", "new", 1],
  ]);
  expect((await readOutbox(api, tenant.tenantId)).map(({ topic }) => topic)).toContain("product.restored");
});

describe("sellers", () => {
  test("import their own, and reach nobody else's products", async () => {
    const { userId, token } = await createPerson(api, tenant.tenantId, "seller");
    await api.sql`update memberships set seller_id = 'anna' where user_id = ${userId}`;
    await run("id,sku,name,price,sellerId\nb-1,b,of bert,1,bert\nn-1,n,of nobody,1,\n");
    const report = await importCsv(
      api,
      token,
      "id,sku,name,price,sellerId\na-1,a,mine,1,\na-2,,mine,1,anna\na-3,,x,1,bert\nb-1,,x,1,\n,b,x,1,anna\nn-1,,x,1,\n",
    );
    expect(report).toMatchObject({ rows: 6, created: 2, failed: 4 });
    expect(report.errors.map(({ line, path }: { line: number; path: string }) => [line, path])).toEqual([
      [4, "sellerId"],
      [5, "id"],
      [6, "sku"],
      [7, "id"],
    ]);
    expect((await products()).map(({ id, seller_id }) => [id, seller_id])).toEqual([
      ["a-1", "anna"],
      ["a-2", "anna"],
      ["b-1", "bert"],
      ["n-1", null],
    ]);
    expect((await api.call("GET", "/products/imports", { as: token })).body.items.length).toBe(1);
    expect((await api.call("GET", "/products/imports", { as: tenant.key })).body.items.length).toBe(2);
    const [foreign] = (await api.call("GET", "/products/imports", { as: tenant.key })).body.items.slice(-1);
    for (const path of ["", "/errors"])
      expect((await api.call("GET", `/products/imports/${foreign.id}${path}`, { as: token })).status).toBe(
        404,
      );
    expect((await api.call("GET", "/products/export", { as: token })).body.split("\r\n").length).toBe(4);
  });

  test("are named by X-Seller-Id, and one without an id does nothing", async () => {
    await run("id,name,price\n1,one,1\n", { "x-seller-id": "carla" });
    expect((await products())[0]?.seller_id).toBe("carla");
    const { token } = await createPerson(api, tenant.tenantId, "seller", null);
    expect((await upload(api, token, "id,name,price\n1,one,1\n")).status).toBe(403);
    for (const path of ["/products/imports", "/products/export"])
      expect((await api.call("GET", path, { as: token })).status).toBe(403);
  });
});

describe("domain events", () => {
  test("of single products go to webhooks, where there is one, with the states before and after", async () => {
    await run("id,name,price\n0,unheard,1\n");
    await addWebhook(api, tenant.tenantId);
    await run("id,name,price,sellerId\n1,one,1.5,anna\n0,heard,1,\n");
    const events = (await readOutbox(api, tenant.tenantId)).filter(
      ({ topic }) => topic !== "import.finished",
    );
    expect(events).toEqual([
      {
        topic: "product.created",
        subject_id: "1",
        seller_id: "anna",
        undone: ["webhooks"],
        payload: {
          before: null,
          after: expect.objectContaining({ id: "1", price: 1.5, currency: "EUR", version: 1 }),
        },
      },
      {
        topic: "product.updated",
        subject_id: "0",
        seller_id: null,
        undone: ["webhooks"],
        payload: {
          before: expect.objectContaining({ name: "unheard", version: 1 }),
          after: expect.objectContaining({ name: "heard", version: 2 }),
        },
      },
    ]);
  });

  test("low stock is told once a crossing, by the product's threshold or the tenant's, to all", async () => {
    await api.sql`update tenants set low_stock_threshold = 5 where id = ${tenant.tenantId}`;
    const stock = (...quantities: (number | string)[]) =>
      run(`id,name,price,quantity\n${quantities.map((n, at) => `${at},p${at},1,${n}`).join("\n")}\n`);
    await stock(3, 9, 9, "", 9);
    await api.sql`update products set low_stock_threshold = 8 where tenant_id = ${tenant.tenantId} and id = '2'`;
    const low = async () =>
      (await readOutbox(api, tenant.tenantId))
        .filter(({ topic }) => topic === "product.lowstock")
        .map(({ subject_id, payload, undone }) => [subject_id, payload.threshold, undone.length]);
    expect(await low()).toEqual([]);
    await stock(2, 6, 8, 5, 5);
    const first = [
      ["2", 8, 2],
      ["4", 5, 2],
    ];
    expect(await low()).toEqual(first);
    await stock(1, 6, 7, 4, 3);
    expect(await low()).toEqual(first);
    await stock(1, 6, 7, 4, 6);
    await stock(1, 6, 7, 4, 5);
    expect(await low()).toEqual([...first, ["4", 5, 2]]);
  });

  test("the end of an import is told once, with its counts", async () => {
    const { id } = await run("id,name,price\n1,one,1\n2,,1\n");
    const events = await readOutbox(api, tenant.tenantId);
    expect(
      events.map(({ topic, subject_id, payload, undone }) => ({ topic, subject_id, payload, undone })),
    ).toEqual([
      {
        topic: "import.finished",
        subject_id: id,
        payload: { id, status: "succeeded", rows: 2, created: 1, updated: 0, failed: 1, error: null },
        undone: ["notifications", "webhooks"],
      },
    ]);
  });
});

test("the cache tags of changed products are deleted, also those of a worker that died after its commit", async () => {
  const { redis } = api.deps;
  const key = (tag: string) => `{${tenant.tenantId}}:tag:${tag}`;
  const set = () => redis.mset(key(PRODUCTS_TAG), "g", key(productTag("1")), "g", key(productTag("2")), "g");
  const left = () => redis.mget(key(PRODUCTS_TAG), key(productTag("1")), key(productTag("2")));
  await run("id,name,price\n1,one,1\n2,two,1\n");
  await set();
  await run("id,name,price\n1,one!,1\n2,two,1\n");
  expect(await left()).toEqual([null, null, "g"]);
  await set();
  const { body } = await upload(api, tenant.key, "id,name,price\n3,three,1\n");
  await api.sql`update product_imports set changed_ids = '{2}' where id = ${body.importId}`;
  await workOff(api);
  expect(await left()).toEqual([null, "g", null]);
});

test("an import is read by the credentials of its tenant only, and by those that may write products", async () => {
  const { id } = await run("id,name,price\n1,one,1\n");
  const other = await createTenant(api);
  const reader = await createKey(api, tenant.tenantId, ["products:read"]);
  for (const path of [`/products/imports/${id}`, `/products/imports/${id}/errors`]) {
    expect((await api.call("GET", path, { as: other.key })).status).toBe(404);
    expect((await api.call("GET", path, { as: reader })).status).toBe(403);
    expect((await api.call("GET", path, { as: tenant.key })).status).toBe(200);
  }
  expect((await api.call("GET", "/products/export", { as: reader })).body).toContain("one");
  expect((await api.call("GET", "/products/export", { as: other.key })).body).not.toContain("one");
});

test("lists page by cursor, newest first, and every report is in it once", async () => {
  const ids = [];
  for (let n = 0; n < 5; n += 1) ids.push((await run(`id,name,price\n${n},x,1\n`)).id);
  const seen: string[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const query = cursor === "" ? "?limit=2" : `?limit=2&cursor=${cursor}`;
    const { body } = await api.call("GET", `/products/imports${query}`, { as: tenant.key });
    seen.push(...body.items.map((item: { id: string }) => item.id));
    cursor = body.nextCursor;
  }
  expect(seen).toEqual(ids.toReversed());
});
