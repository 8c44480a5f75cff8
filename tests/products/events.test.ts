/**
 * G7: every change has its domain event in its transaction, with the states before and after; low
 * stock once a crossing.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createPerson, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createHandling } from "../notifications/stage.ts";
import { domainEvents, pathOf, productInput, type StoredDomainEvent } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const call = (method: string, path: string, json?: object, headers = {}) =>
  api.call(method, path, { as: tenant.key, json, headers });
const create = async (overrides = {}) => (await call("POST", "/products", productInput(overrides))).body;
const eventsOf = async (id: string): Promise<StoredDomainEvent[]> =>
  (await domainEvents(api, tenant.tenantId)).filter(({ subjectId }) => subjectId === id);
const topicsOf = async (id: string) => (await eventsOf(id)).map(({ topic }) => topic);

test("creation, change, deletion and restoration are told with before and after, for every consumer", async () => {
  const created = await create({ sellerId: "s-1", price: 9_999_999_999.99 });
  const path = pathOf(created.id);
  const { body: changed } = await call("PATCH", path, { price: 0.29 });
  const { body: replaced } = await call("PUT", path, productInput({ sellerId: "s-1" }));
  await call("DELETE", path);
  const { body: restored } = await call("POST", `${path}/restore`);
  const told = { subjectId: created.id, sellerId: "s-1" };
  expect(await eventsOf(created.id)).toEqual([
    { ...told, topic: "product.created", payload: { before: null, after: created } },
    { ...told, topic: "product.updated", payload: { before: created, after: changed } },
    { ...told, topic: "product.updated", payload: { before: changed, after: replaced } },
    { ...told, topic: "product.deleted", payload: { before: replaced, after: null } },
    { ...told, topic: "product.restored", payload: { before: null, after: restored } },
  ]);
  const rows = await api.sql`select undone, announcements, announce_at <= now() as due from outbox
    where tenant_id = ${tenant.tenantId} and subject_id = ${created.id}`;
  for (const row of rows) {
    expect(row.undone.toSorted()).toEqual(["notifications", "webhooks"]);
    expect([row.announcements, row.due]).toEqual([0, true]);
  }
});

test("what changes nothing, and what fails, tells nothing", async () => {
  const { id } = await create({ sku: "told-once" });
  const other = await create({ sku: "told-other" });
  const path = pathOf(id);
  for (const [method, target, json, headers] of [
    ["PATCH", path, {}],
    ["PATCH", path, { price: 4.95, description: null }],
    ["PUT", path, productInput({ sku: "told-once" })],
    ["POST", `${path}/restore`, undefined],
    ["PATCH", path, { sku: other.sku, quantity: 0 }],
    ["PATCH", path, { price: 1 }, { "if-match": '"7"' }],
    ["PATCH", path, { price: -1 }],
    ["POST", "/products", productInput({ id })],
    ["POST", "/products", productInput({ sku: "told-once" })],
    ["DELETE", path, undefined, { "if-match": '"7"' }],
    ["DELETE", "/products/never-was", undefined],
  ] as const)
    await call(method, target, json, headers);
  expect(await topicsOf(id)).toEqual(["product.created"]);
  expect((await eventsOf(other.id)).length).toBe(1);
  expect(await topicsOf("never-was")).toEqual([]);
});

test("an event that can't be stored takes its change with it", async () => {
  const product = await create();
  const count = async () => (await domainEvents(api, tenant.tenantId)).length;
  const before = await count();
  await api.sql`alter table outbox add constraint closed check (false) not valid`;
  for (const [method, path, json] of [
    ["POST", "/products", productInput({ id: "half-done" })],
    ["PATCH", pathOf(product.id), { price: 1 }],
    ["DELETE", pathOf(product.id), undefined],
  ] as const)
    expect((await call(method, path, json)).status).toBeGreaterThanOrEqual(400);
  await api.sql`alter table outbox drop constraint closed`;
  expect((await call("GET", pathOf(product.id))).body).toEqual(product);
  expect((await call("GET", "/products/half-done")).status).toBe(404);
  expect(await count()).toBe(before);
});

test("a change that fails after its event takes the event with it", async () => {
  await api.sql`alter table idempotency_keys add constraint closed check (false) not valid`;
  const headers = { "idempotency-key": "fails" };
  const { status } = await call("POST", "/products", productInput({ id: "undone" }), headers);
  await api.sql`alter table idempotency_keys drop constraint closed`;
  expect(status).toBeGreaterThanOrEqual(400);
  expect(await topicsOf("undone")).toEqual([]);
  expect((await call("GET", "/products/undone")).status).toBe(404);
});

test("fifty creations with one Idempotency-Key tell of one", async () => {
  const json = productInput({ category: "once" });
  const headers = { "idempotency-key": "fifty" };
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => call("POST", "/products", json, headers)),
  );
  const made = answers.filter(({ status }) => status === 201);
  expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
  expect(new Set(made.map(({ body }) => body.id)).size).toBe(1);
  expect(await topicsOf(made[0]?.body.id)).toEqual(["product.created"]);
  expect((await call("GET", "/products?category=once&page=1")).body.total).toBe(1);
});

describe("product.lowstock", () => {
  /** The changes one after the other, and after each how many crossings there were so far. */
  async function crossings(start: object, changes: object[]): Promise<number[]> {
    const { id } = await create(start);
    const counts: number[] = [];
    for (const json of changes) {
      expect((await call("PATCH", pathOf(id), json)).status).toBe(200);
      counts.push((await topicsOf(id)).filter((topic) => topic === "product.lowstock").length);
    }
    return counts;
  }

  test("says what it crossed", async () => {
    const product = await create({ quantity: 6, lowStockThreshold: 5, sellerId: "s-9" });
    const { body: after } = await call("PATCH", pathOf(product.id), { quantity: 5 });
    expect((await eventsOf(product.id)).at(-1)).toEqual({
      topic: "product.lowstock",
      subjectId: product.id,
      sellerId: "s-9",
      payload: { before: product, after, threshold: 5 },
    });
    expect(await topicsOf(product.id)).toEqual(["product.created", "product.updated", "product.lowstock"]);
  });

  test("once a crossing, and again only after it was above", async () => {
    const quantities = [6, 5, 4, 0, 5, 6, 5, 100, 0];
    expect(
      await crossings(
        { quantity: 10, lowStockThreshold: 5 },
        quantities.map((quantity) => ({ quantity })),
      ),
    ).toEqual([0, 1, 1, 1, 1, 1, 2, 2, 3]);
  });

  test("untracked stock, and stock that is low from the start, cross nothing", async () => {
    expect(
      await crossings({ quantity: null, lowStockThreshold: 5 }, [
        { quantity: 3 },
        { quantity: null },
        { quantity: 8 },
        { quantity: null },
        { quantity: 0 },
      ]),
    ).toEqual([0, 0, 0, 0, 0]);
    expect(await crossings({ quantity: 5, lowStockThreshold: 5 }, [{ quantity: 4 }, { price: 1 }])).toEqual([
      0, 0,
    ]);
    const { id } = await create({ quantity: 0, lowStockThreshold: 5 });
    expect(await topicsOf(id)).toEqual(["product.created"]);
  });

  test("a threshold raised past the stock crosses, too", async () => {
    expect(
      await crossings({ quantity: 10, lowStockThreshold: 5 }, [
        { lowStockThreshold: 10 },
        { lowStockThreshold: 20 },
        { lowStockThreshold: 9 },
        { lowStockThreshold: 12, quantity: 12 },
      ]),
    ).toEqual([1, 1, 1, 2]);
  });

  test("where the product has no threshold it is the tenant's, as it stands", async () => {
    const set = (lowStockThreshold: number) => call("PATCH", "/tenants/current", { lowStockThreshold });
    await set(3);
    const { id } = await create({ quantity: 10 });
    await call("PATCH", pathOf(id), { quantity: 4 });
    expect(await topicsOf(id)).not.toContain("product.lowstock");
    await call("PATCH", pathOf(id), { quantity: 10 });
    await set(8);
    await call("PATCH", pathOf(id), { quantity: 8 });
    expect((await eventsOf(id)).at(-1)).toMatchObject({
      topic: "product.lowstock",
      payload: { threshold: 8 },
    });
  });

  test("PUT crosses as PATCH does", async () => {
    const { id } = await create({ quantity: 10, lowStockThreshold: 5 });
    await call("PUT", pathOf(id), productInput({ quantity: 1, lowStockThreshold: 5 }));
    expect(await topicsOf(id)).toContain("product.lowstock");
  });
});

test("a product that goes to another seller is told to each in its own state, and to webhooks whole", async () => {
  const { body: before } = await call(
    "POST",
    "/products",
    productInput({ sellerId: "s-3", quantity: 9, lowStockThreshold: 5 }),
  );
  const { body: after } = await call("PATCH", pathOf(before.id), { sellerId: "s-4", quantity: 2 });
  const rows = await api.sql<
    { topic: string; seller_id: string; payload: object; undone: string[] }[]
  >`select topic, seller_id, payload, undone from outbox
    where tenant_id = ${tenant.tenantId} and subject_id = ${before.id} and topic <> 'product.created' order by id`;
  const both = ["notifications", "webhooks"];
  const updated = { topic: "product.updated" };
  expect(rows.map((row) => ({ ...row, undone: row.undone.toSorted() }))).toEqual([
    { ...updated, seller_id: "s-4", payload: { before, after }, undone: ["webhooks"] },
    { ...updated, seller_id: "s-3", payload: { before, after: null }, undone: ["notifications"] },
    { ...updated, seller_id: "s-4", payload: { before: null, after }, undone: ["notifications"] },
    {
      topic: "product.lowstock",
      seller_id: "s-4",
      payload: { before: null, after, threshold: 5 },
      undone: both,
    },
  ]);
});

test("moved to another seller, neither is shown what is the other's", async () => {
  const own = await createTenant(api);
  const [former, next] = [
    (await createPerson(api, own.tenantId, "seller", "former")).token,
    (await createPerson(api, own.tenantId, "seller", "next")).token,
  ];
  const { body } = await api.call("POST", "/products", {
    as: former,
    json: productInput({ description: "of the former" }),
  });
  const changed = { sellerId: "next", description: "of the next" };
  await api.call("PATCH", pathOf(body.id), { as: own.key, json: changed });
  await createHandling(api).handleAll();
  const shown = async (as: string) => {
    const { body: page } = await api.call("GET", "/notifications?topics=product.updated", { as });
    return page.items.map(
      ({ data }: { data: Record<"before" | "after", { description: string } | null> }) => [
        data.before?.description ?? null,
        data.after?.description ?? null,
      ],
    );
  };
  expect(await shown(former)).toEqual([["of the former", null]]);
  expect(await shown(next)).toEqual([[null, "of the next"]]);
  expect((await shown(own.key)).length).toBe(2);
});
