/** Orders over HTTP: what is queued, its outcome, and who sees it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createProduct, handleAll, orderInput, statusOf, stockOf } from "./shop.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  for (const id of ["p-1", "p-2"]) await createProduct(api, tenant, id, { quantity: 1_000, price: "9.95" });
});
afterAll(cleanup);

const place = (overrides = {}, as = tenant.key, headers = {}) =>
  api.call("POST", "/orders", { as, json: orderInput(overrides), headers });
const read = (id: string, as = tenant.key) => api.call("GET", `/orders/${id}`, { as });
const move = (id: string, status: string, as = tenant.key) =>
  api.call("PUT", `/orders/${id}/status`, { as, json: { status } });

describe("placing", () => {
  test("answers 202 with a queued order that can be read at once", async () => {
    const { status, body } = await place({ items: [{ productId: "p-1", quantity: 2 }] });
    expect(status).toBe(202);
    expect(body).toEqual({
      id: expect.any(String),
      messageId: expect.any(String),
      status: "queued",
      deduplicated: false,
    });
    expect((await read(body.id)).body).toMatchObject({
      id: body.id,
      groupId: "ada@example.com",
      status: "queued",
      amount: null,
      items: [{ productId: "p-1", quantity: 2, unitPrice: null }],
      history: [],
      allowedTransitions: ["cancelled"],
    });
    await handleAll(api);
    const { body: order } = await read(body.id);
    expect(order).toMatchObject({
      status: "pending",
      amount: 19.9,
      allowedTransitions: ["confirmed", "cancelled"],
    });
    expect(order.history).toEqual([
      {
        messageId: body.messageId,
        from: "queued",
        to: "pending",
        outcome: "applied",
        reason: null,
        at: expect.any(String),
      },
    ]);
  });

  test("a deduplicationId makes one order in five minutes, also at once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => place({ deduplicationId: "once", customerEmail: "once@example.com" })),
    );
    expect(new Set(answers.map(({ body }) => `${body.id} ${body.messageId}`)).size).toBe(1);
    expect(answers.filter(({ body }) => !body.deduplicated).length).toBe(1);
    const count = async () =>
      (await api.call("GET", "/orders?customerEmail=once@example.com", { as: tenant.key })).body.items.length;
    expect(await count()).toBe(1);
    await api.sql`update order_deduplications set expires_at = now() - interval '1 second' where deduplication_id = 'once'`;
    const later = await place({ deduplicationId: "once", customerEmail: "once@example.com" });
    expect(later.body.deduplicated).toBe(false);
    expect(await count()).toBe(2);
  });

  test("a customer's deduplicationId is nobody else's", async () => {
    const [one, other] = [
      await createPerson(api, tenant.tenantId, "customer"),
      await createPerson(api, tenant.tenantId, "customer"),
    ];
    const ids = [tenant.key, one.token, other.token].map((as) => place({ deduplicationId: "shared" }, as));
    expect(new Set((await Promise.all(ids)).map(({ body }) => body.id)).size).toBe(3);
  });

  test("an Idempotency-Key makes one order, and its replay says so", async () => {
    const headers = { "idempotency-key": "order" };
    const first = await place({}, tenant.key, headers);
    const second = await place({}, tenant.key, headers);
    expect(second.body).toEqual(first.body);
    expect(second.headers.get("idempotent-replayed")).toBe("true");
    expect((await place({ customerName: "Bob" }, tenant.key, headers)).status).toBe(422);
  });

  test.each([
    [{ items: [] }],
    [{ items: [{ productId: "p-1", quantity: 0 }] }],
    [{ items: [{ productId: "p-1", quantity: 1, price: 0.01 }] }],
    [{ customerEmail: "nobody" }],
    [{ customerName: " " }],
    [{ status: "delivered" }],
    [{ userId: "somebody" }],
    [{ groupId: "a\0b" }],
  ])("%j is a 400", async (overrides) => {
    expect((await place(overrides)).status).toBe(400);
  });
});

describe("in its turn", () => {
  test("an order takes all of its lines or none, and is rejected with the reason", async () => {
    const shop = await createTenant(api);
    await createProduct(api, shop, "many", { quantity: 50 });
    await createProduct(api, shop, "few", { quantity: 2 });
    await createProduct(api, shop, "off", { status: "inactive" });
    const reject = async (productId: string, quantity: number) => {
      const items = [
        { productId: "many", quantity: 5 },
        { productId, quantity },
      ];
      const { body } = await place({ items }, shop.key);
      await handleAll(api);
      const order = (await read(body.id, shop.key)).body;
      return [order.status, order.reason, order.reasonProductId, order.amount];
    };
    expect(await reject("few", 3)).toEqual(["rejected", "insufficient_stock", "few", null]);
    expect(await reject("absent", 1)).toEqual(["rejected", "unknown_product", "absent", null]);
    expect(await reject("off", 1)).toEqual(["rejected", "product_inactive", "off", null]);
    expect(await reject("many", 46)).toEqual(["rejected", "insufficient_stock", "many", null]);
    expect(await stockOf(api, shop, "many")).toEqual({ quantity: 50, version: 1 });
    const [events] = await api.sql`select count(*)::int as n from events where tenant_id = ${shop.tenantId}`;
    expect(events?.n).toBe(0);
    const topics = await api.sql`select distinct topic from outbox where tenant_id = ${shop.tenantId}`;
    expect([...topics]).toEqual([{ topic: "order.rejected" }]);
  });

  test("commands of a group are handled in order: the last pieces go to who came first", async () => {
    const shop = await createTenant(api);
    await createProduct(api, shop, "last", { quantity: 3 });
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1)
      ids.push((await place({ items: [{ productId: "last", quantity: 1 }] }, shop.key)).body.id);
    await handleAll(api);
    const statuses = await Promise.all(ids.map((id) => statusOf(api, shop.key, id)));
    expect(statuses).toEqual(["pending", "pending", "pending", "rejected", "rejected"]);
    expect((await stockOf(api, shop, "last"))?.quantity).toBe(0);
  });

  test("it goes its way, each step told once, and cancelling gives stock and money back", async () => {
    const shop = await createTenant(api);
    await createProduct(api, shop, "p", { quantity: 10, price: "3.33" });
    const items = [{ productId: "p", quantity: 3 }];
    const kept = (await place({ items }, shop.key)).body.id;
    const dropped = (await place({ items }, shop.key)).body.id;
    await handleAll(api);
    expect((await stockOf(api, shop, "p"))?.quantity).toBe(4);
    for (const status of ["confirmed", "shipped", "delivered"]) {
      expect((await move(kept, status, shop.key)).status).toBe(202);
      await handleAll(api);
      expect(await statusOf(api, shop.key, kept)).toBe(status as never);
    }
    expect((await api.call("DELETE", `/orders/${dropped}`, { as: shop.key })).status).toBe(202);
    await handleAll(api);
    expect((await stockOf(api, shop, "p"))?.quantity).toBe(7);
    await rollUpAll(api);
    const { totals } = (await api.call("GET", "/analytics/summary?days=2", { as: shop.key })).body;
    expect(totals).toMatchObject({ purchases: 2, units: 3, revenue: 9.99, uniqueUsers: 1 });
    const told = await api.sql`select topic, count(*)::int as n from outbox
      where tenant_id = ${shop.tenantId} and topic like 'order.%' group by topic order by topic`;
    expect([...told]).toEqual([
      { topic: "order.cancelled", n: 1 },
      { topic: "order.created", n: 2 },
      { topic: "order.status_changed", n: 3 },
    ]);
  });

  test("what is illegal now is a 409, what has become so is refused in its turn", async () => {
    const { body } = await place();
    expect((await move(body.id, "confirmed")).status).toBe(409);
    await handleAll(api);
    expect((await move(body.id, "shipped")).status).toBe(409);
    expect((await move(body.id, "queued")).status).toBe(409);
    expect((await move(body.id, "lost")).status).toBe(400);
    const cancel = await move(body.id, "cancelled");
    const confirm = await move(body.id, "confirmed");
    expect([cancel.status, confirm.status]).toEqual([202, 202]);
    const stock = (await stockOf(api, tenant, "p-1"))?.quantity ?? 0;
    await handleAll(api);
    const order = (await read(body.id)).body;
    expect(order.status).toBe("cancelled");
    expect(order.history.at(-1)).toMatchObject({
      messageId: confirm.body.messageId,
      from: "cancelled",
      to: "confirmed",
      outcome: "refused",
      reason: "illegal_transition",
    });
    expect((await stockOf(api, tenant, "p-1"))?.quantity).toBe(stock + 1);
    expect((await move(body.id, "cancelled")).status).toBe(409);
  });

  test("an order cancelled while it is queued is accepted first and given back, in order", async () => {
    const before = (await stockOf(api, tenant, "p-2"))?.quantity;
    const { body } = await place({ items: [{ productId: "p-2", quantity: 4 }] });
    expect((await move(body.id, "cancelled")).status).toBe(202);
    await handleAll(api);
    expect((await read(body.id)).body.history.map(({ to }: { to: string }) => to)).toEqual([
      "pending",
      "cancelled",
    ]);
    expect((await stockOf(api, tenant, "p-2"))?.quantity).toBe(before as number);
  });

  test("lowstock is told by orders, too, and again after the stock had risen", async () => {
    const shop = await createTenant(api);
    await createProduct(api, shop, "low", { quantity: 8 });
    const take = async (quantity: number) => {
      const { body } = await place({ items: [{ productId: "low", quantity }] }, shop.key);
      await handleAll(api);
      return body.id;
    };
    await take(1);
    const crossing = await take(2);
    await take(1);
    await move(crossing, "cancelled", shop.key);
    await handleAll(api);
    await take(3);
    const told =
      await api.sql`select payload->'before'->'quantity' as before, payload->'after'->'quantity' as after
      from outbox where tenant_id = ${shop.tenantId} and topic = 'product.lowstock' order by created_at, id`;
    expect([...told]).toEqual([
      { before: 7, after: 5 },
      { before: 6, after: 3 },
    ]);
  });
});

describe("reading", () => {
  test("customers see, change and cancel their own only; staff and keys with the scope see all", async () => {
    const [owner, other] = [
      await createPerson(api, tenant.tenantId, "customer"),
      await createPerson(api, tenant.tenantId, "customer"),
    ];
    const analyst = await createPerson(api, tenant.tenantId, "analyst");
    const seller = await createPerson(api, tenant.tenantId, "seller");
    const reader = await createKey(api, tenant.tenantId, ["orders:read"]);
    const { id } = (await place({ groupId: "owned" }, owner.token)).body;
    const statuses = await Promise.all(
      [owner.token, other.token, analyst.token, seller.token, reader, tenant.key].map(
        async (as) => (await read(id, as)).status,
      ),
    );
    expect(statuses).toEqual([200, 404, 200, 403, 200, 200]);
    expect((await api.call("GET", "/orders", { as: other.token })).body.items).toEqual([]);
    expect((await api.call("GET", "/orders", { as: owner.token })).body.items.length).toBe(1);
    expect((await api.call("DELETE", `/orders/${id}`, { as: other.token })).status).toBe(404);
    expect((await api.call("DELETE", `/orders/${id}`, { as: reader })).status).toBe(403);
    expect((await move(id, "cancelled", owner.token)).status).toBe(403);
    expect((await api.call("DELETE", `/orders/${id}`, { as: owner.token })).status).toBe(202);
    await handleAll(api);
    expect((await read(id, owner.token)).status).toBe(404);
    expect((await read(id)).status).toBe(404);
    expect((await api.call("GET", "/orders", { as: owner.token })).body.items).toEqual([]);
    const audited = await api.sql`select action, target from audit_log where target = ${id}`;
    expect([...audited]).toEqual([{ action: "order.cancel_requested", target: id }]);
  });

  test("lists are filtered, and the same for every page size", async () => {
    const shop = await createTenant(api);
    await createProduct(api, shop, "p-1");
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1)
      ids.unshift((await place({ customerEmail: `c${n % 2}@example.com` }, shop.key)).body.id);
    await handleAll(api);
    await move(ids[0] as string, "confirmed", shop.key);
    await handleAll(api);
    const list = async (query: string) => (await api.call("GET", `/orders?${query}`, { as: shop.key })).body;
    for (const limit of [1, 3, 7, 20]) {
      const found: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const page = await list(`limit=${limit}${cursor && `&cursor=${cursor}`}`);
        found.push(...page.items.map(({ id }: { id: string }) => id));
        cursor = page.nextCursor;
      }
      expect(found).toEqual(ids);
    }
    const count = async (query: string) => (await list(query)).items.length;
    expect(await count("status=confirmed")).toBe(1);
    expect(await count("customerEmail=C1@example.com")).toBe(3);
    expect(await count(`from=${new Date(Date.now() + 1_000).toISOString()}`)).toBe(0);
    expect(await count(`to=${new Date(Date.now() + 1_000).toISOString()}`)).toBe(7);
    const { nextCursor } = await list("limit=1&status=pending");
    expect((await api.call("GET", `/orders?cursor=${nextCursor}`, { as: shop.key })).status).toBe(400);
  });

  test("cached answers and lists are dropped by every change, and ETags save the rest", async () => {
    const { body } = await place({ customerEmail: "cached@example.com" });
    const list = async () =>
      (await api.call("GET", "/orders?limit=1", { as: tenant.key })).body.items[0].status;
    expect([await statusOf(api, tenant.key, body.id), await list()]).toEqual(["queued", "queued"]);
    await handleAll(api);
    expect([await statusOf(api, tenant.key, body.id), await list()]).toEqual(["pending", "pending"]);
    await api.sql`update orders set status = 'shipped' where id = ${body.id}`;
    expect([await statusOf(api, tenant.key, body.id), await list()]).toEqual(["pending", "pending"]);
    const { headers } = await read(body.id);
    const again = await api.call("GET", `/orders/${body.id}`, {
      as: tenant.key,
      headers: { "if-none-match": headers.get("etag") ?? "" },
    });
    expect(again.status).toBe(304);
  });
});
