/** Many at once on one product: one winner a version, and events that join on to each other. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { domainEvents, pathOf, productInput } from "./fixtures.ts";

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
const statuses = (answers: { status: number }[]) => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};
const eventsOf = async (id: string) =>
  (await domainEvents(api, tenant.tenantId)).filter(({ subjectId }) => subjectId === id);

test("of fifty changes that expect the same version one is made", async () => {
  for (let round = 0; round < 5; round += 1) {
    const { id } = await create();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        call("PATCH", pathOf(id), { price: n + 5 }, { "if-match": '"1-EUR"' }),
      ),
    );
    expect(statuses(answers)).toEqual({ 200: 1, 412: 49 });
    const winner = answers.find(({ status }) => status === 200)?.body;
    expect((await call("GET", pathOf(id))).body).toEqual(winner);
    expect((await eventsOf(id)).length).toBe(2);
  }
});

test("200 changes at once: each event's before is the after of the version before it", async () => {
  const product = await create({ quantity: 500, lowStockThreshold: 250 });
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, n) => {
      const json =
        n % 3 === 0 ? { quantity: 500 - n * 2 } : n % 3 === 1 ? { price: n + 0.01 } : { name: `Tea ${n}` };
      return call("PATCH", pathOf(product.id), json);
    }),
  );
  expect(statuses(answers)).toEqual({ 200: 200 });
  const events = await eventsOf(product.id);
  const updates = events
    .filter(({ topic }) => topic === "product.updated")
    .toSorted((a, b) => a.payload.after.version - b.payload.after.version);
  let state = product;
  for (const { payload } of updates) {
    expect(payload.before).toEqual(state);
    expect(payload.after.version).toBe(state.version + 1);
    state = payload.after;
  }
  expect(updates.length).toBeGreaterThan(190);
  expect((await call("GET", pathOf(product.id))).body).toEqual(state);
  // Version by version, the quantity crosses its threshold as often as was told.
  const crossed = updates.filter(
    ({ payload: { before, after } }) => before.quantity > 250 && after.quantity <= 250,
  );
  expect(events.filter(({ topic }) => topic === "product.lowstock").length).toBe(crossed.length);
});

test("of twenty products that want one id or one sku at once one is made", async () => {
  const byId = await Promise.all(
    Array.from({ length: 20 }, () => call("POST", "/products", productInput({ id: "wanted" }))),
  );
  expect(statuses(byId)).toEqual({ 201: 1, 409: 19 });
  const bySku = await Promise.all(
    Array.from({ length: 20 }, () => call("POST", "/products", productInput({ sku: "wanted" }))),
  );
  expect(statuses(bySku)).toEqual({ 201: 1, 409: 19 });
  expect((await eventsOf("wanted")).length).toBe(1);
});

test("deleted and restored by many at once, it ends as its last event says", async () => {
  const { id } = await create();
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, n) =>
      n % 2 === 0 ? call("DELETE", pathOf(id)) : call("POST", `${pathOf(id)}/restore`),
    ),
  );
  expect(Object.keys(statuses(answers)).every((status) => ["200", "204", "404"].includes(status))).toBe(true);
  const topics = (await eventsOf(id)).map(({ topic }) => topic);
  const deleted = topics.filter((topic) => topic === "product.deleted").length;
  const restored = topics.filter((topic) => topic === "product.restored").length;
  expect([0, 1]).toContain(deleted - restored);
  expect((await call("GET", pathOf(id))).status).toBe(deleted > restored ? 404 : 200);
  const [row] =
    await api.sql`select version from products where tenant_id = ${tenant.tenantId} and id = ${id}`;
  expect(row?.version).toBe(1 + deleted + restored);
});
