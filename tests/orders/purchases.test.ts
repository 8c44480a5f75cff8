/**
 * Buying at once: the store's price, stock that is never oversold, one sale a purchase.
 * FAULT_ROUNDS=100 is the slow mode.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { PRODUCTS_TAG, productTag, readOrMakeGenerations } from "../../src/cache/tags.ts";
import {
  type Answer,
  createPerson,
  createTenant,
  createTestApi,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { rounds } from "../faults/stage.ts";
import { cleanup } from "../harness.ts";
import { createProduct, stockOf } from "./shop.ts";

const ROUNDS = rounds(2);
const BUYERS = 500;
const PIECES = 10;

let api: TestApi;
let tenant: TestTenant;
let customer: { userId: string; token: string };

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  customer = await createPerson(api, tenant.tenantId, "customer");
});
afterAll(cleanup);

const buy = (json: object, headers = {}, as = customer.token): Promise<Answer> =>
  api.call("POST", "/purchases", { as, json, headers });
const revenue = async ({ key }: TestTenant): Promise<number> => {
  await rollUpAll(api);
  return (await api.call("GET", "/analytics/summary?days=2&skipCache=true", { as: key })).body.totals.revenue;
};

test("a purchase takes the store's price and the stock, and counts as a sale of the buyer", async () => {
  const shop = await createTenant(api);
  const { userId, token } = await createPerson(api, shop.tenantId, "customer");
  await createProduct(api, shop, "tea", { price: "12.34", quantity: 7 });
  const { status, body } = await buy({ productId: "tea", quantity: 3 }, {}, token);
  expect(status).toBe(201);
  expect(body).toEqual({
    id: expect.any(String),
    productId: "tea",
    userId,
    quantity: 3,
    unitPrice: 12.34,
    amount: 37.02,
    createdAt: expect.any(String),
  });
  expect(await stockOf(api, shop, "tea")).toEqual({ quantity: 4, version: 2 });
  expect(await revenue(shop)).toBe(37.02);
  const summary = await api.call("GET", "/analytics/users/me/summary?days=2", { as: token });
  expect(summary.body.totals).toMatchObject({ purchases: 1, units: 3, spend: 37.02 });
});

test("what can't be sold is refused, and nothing of it is stored", async () => {
  const shop = await createTenant(api);
  const { token } = await createPerson(api, shop.tenantId, "customer");
  await createProduct(api, shop, "few", { quantity: 2 });
  await createProduct(api, shop, "inactive", { status: "inactive" });
  await createProduct(api, shop, "deleted", { deleted: true });
  const answers = await Promise.all([
    buy({ productId: "few", quantity: 3 }, {}, token),
    buy({ productId: "inactive" }, {}, token),
    // Who sees inactive products is told why.
    buy({ productId: "inactive" }, {}, shop.key),
    buy({ productId: "deleted" }, {}, token),
    buy({ productId: "absent" }, {}, token),
    buy({ productId: "few", quantity: 0 }, {}, token),
    buy({ productId: "few", price: 0.01 }, {}, token),
  ]);
  expect(answers.map(({ status, body }) => [status, body.code])).toEqual([
    [409, "insufficient_stock"],
    [404, "not_found"],
    [409, "conflict"],
    [404, "not_found"],
    [404, "not_found"],
    [400, "invalid_input"],
    [400, "invalid_input"],
  ]);
  expect(await stockOf(api, shop, "few")).toEqual({ quantity: 2, version: 1 });
  const [row] = await api.sql`select
    (select count(*)::int from purchases where tenant_id = ${shop.tenantId}) as purchases,
    (select count(*)::int from events where tenant_id = ${shop.tenantId}) as events`;
  expect(row).toEqual({ purchases: 0, events: 0 });
});

test("untracked stock is never short and never changes", async () => {
  await createProduct(api, tenant, "endless", { quantity: null });
  expect((await buy({ productId: "endless", quantity: 100_000 })).status).toBe(201);
  expect(await stockOf(api, tenant, "endless")).toEqual({ quantity: null, version: 1 });
});

test("lowstock is told once a crossing, by the product's threshold or else the tenant's", async () => {
  const shop = await createTenant(api);
  const { token } = await createPerson(api, shop.tenantId, "customer");
  await api.sql`update tenants set low_stock_threshold = 3 where id = ${shop.tenantId}`;
  await createProduct(api, shop, "own", { quantity: 10, lowStockThreshold: 8 });
  await createProduct(api, shop, "tenants", { quantity: 6 });
  for (const quantity of [1, 1, 1, 1]) await buy({ productId: "own", quantity }, {}, token);
  for (const quantity of [2, 1, 1]) await buy({ productId: "tenants", quantity }, {}, token);
  const told = await api.sql`select subject_id as id, payload->'before'->'quantity' as before,
    payload->'after'->'quantity' as after from outbox
    where tenant_id = ${shop.tenantId} and topic = 'product.lowstock' order by subject_id`;
  expect([...told]).toEqual([
    { id: "own", before: 9, after: 8 },
    { id: "tenants", before: 4, after: 3 },
  ]);
});

test(
  `${BUYERS} buyers of ${PIECES} pieces, ${ROUNDS} times: ${PIECES} get one, the others a clean 409`,
  async () => {
    const shop = await createTenant(api);
    const { token } = await createPerson(api, shop.tenantId, "customer");
    const tookMs: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const productId = `rush-${round}`;
      await createProduct(api, shop, productId, { quantity: PIECES, price: "3.33" });
      // Half of them send a key, as careful clients do.
      const headers = (n: number) => (n % 2 ? { "idempotency-key": `${round}-${n}` } : {});
      const startedAt = performance.now();
      const answers = await Promise.all(
        Array.from({ length: BUYERS }, (_, n) => buy({ productId }, headers(n), token)),
      );
      tookMs.push(performance.now() - startedAt);
      expect(answers.filter(({ status }) => status === 201).length).toBe(PIECES);
      const refused = answers.filter(
        ({ status, body }) => status === 409 && body.code === "insufficient_stock",
      );
      expect(refused.length).toBe(BUYERS - PIECES);
      expect((await stockOf(api, shop, productId))?.quantity).toBe(0);
    }
    console.log(`a rush of ${BUYERS}: ${Math.round(Math.max(...tookMs))} ms at the longest`);
    const [row] = await api.sql`select count(*)::int as n from purchases where tenant_id = ${shop.tenantId}`;
    expect(row?.n).toBe(ROUNDS * PIECES);
    expect(await revenue(shop)).toBe(Math.round(ROUNDS * PIECES * 333) / 100);
  },
  60_000 + ROUNDS * 10_000,
);

test("50 requests with one Idempotency-Key buy once", async () => {
  await createProduct(api, tenant, "once", { quantity: 100 });
  const headers = { "idempotency-key": "once" };
  const answers = await Promise.all(Array.from({ length: 50 }, () => buy({ productId: "once" }, headers)));
  expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
  const replay = await buy({ productId: "once" }, headers);
  expect([replay.status, replay.headers.get("idempotent-replayed")]).toEqual([201, "true"]);
  expect((await stockOf(api, tenant, "once"))?.quantity).toBe(99);
  expect((await buy({ productId: "once", quantity: 2 }, headers)).status).toBe(422);
});

describe("GET /purchases/me", () => {
  test("lists the caller's own, the same by cursor and by page for every size", async () => {
    const shop = await createTenant(api);
    const [one, other] = [
      await createPerson(api, shop.tenantId, "customer"),
      await createPerson(api, shop.tenantId, "customer"),
    ];
    await createProduct(api, shop, "p", { quantity: null });
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1) {
      ids.unshift((await buy({ productId: "p" }, {}, one.token)).body.id);
      await buy({ productId: "p" }, {}, other.token);
    }
    const read = async (query: string) =>
      (await api.call("GET", `/purchases/me?${query}`, { as: one.token })).body;
    for (const limit of [1, 3, 7, 20]) {
      const found: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const page = await read(`limit=${limit}${cursor && `&cursor=${cursor}`}`);
        found.push(...page.items.map(({ id }: { id: string }) => id));
        cursor = page.nextCursor;
      }
      expect(found).toEqual(ids);
      const paged: string[] = [];
      for (let page = 1; page <= Math.ceil(7 / limit); page += 1) {
        const answer = await read(`limit=${limit}&page=${page}`);
        expect(answer).toMatchObject({ page, limit, total: 7 });
        paged.push(...answer.items.map(({ id }: { id: string }) => id));
      }
      expect(paged).toEqual(ids);
    }
  });

  test("a cursor of another list, or with a page, is a 400", async () => {
    for (const query of ["cursor=abc", "page=0", "page=1&cursor=abc", "limit=101", "unknown=1"])
      expect((await api.call("GET", `/purchases/me?${query}`, { as: customer.token })).status).toBe(400);
  });
});

test("a cached product and list are dropped by a sale", async () => {
  await createProduct(api, tenant, "cached", { quantity: 5 });
  const tags = [PRODUCTS_TAG, productTag("cached")];
  const generations = () => readOrMakeGenerations(api.deps.redis, tenant.tenantId, tags);
  const before = await generations();
  await buy({ productId: "cached" });
  const after = await generations();
  expect(before.some((generation, n) => generation === after[n])).toBe(false);
});
