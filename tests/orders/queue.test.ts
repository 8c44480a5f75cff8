/** Failures, dead letters, purging, and what administrators see of the queue and its workers. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { RunTransaction } from "../../src/db/transaction.ts";
import { createOrderHandling } from "../../src/features/orders/index.ts";
import { ORDER_COMMANDS } from "../../src/streams/topology.ts";
import { createOrderConsumer } from "../../worker/consumers/orders.ts";
import { createHeartbeat } from "../../worker/jobs/heartbeat.ts";
import { createOrderSweeper } from "../../worker/jobs/order-sweeper.ts";
import { createPerson, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { holdTable, untilBlocked } from "../faults/stage.ts";
import { cleanup, eventually, runFootfall } from "../harness.ts";
import { createProduct, handleAll, orderInput, poisonOrders, statusOf, stockOf } from "./shop.ts";

const TRIES = 4;

let api: TestApi;
let shop: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  await poisonOrders(api);
});
afterAll(cleanup);
beforeEach(async () => {
  await api.sql`update order_commands set state = 'done', outcome = 'purged', finished_at = now() where state = 'waiting'`;
  shop = await createTenant(api);
  await createProduct(api, shop, "p-1", { quantity: 1_000 });
  await createProduct(api, shop, "poison");
});

const place = async (groupId: string, productId = "p-1"): Promise<{ id: string; messageId: string }> => {
  const json = orderInput({ groupId, items: [{ productId, quantity: 1 }] });
  return (await api.call("POST", "/orders", { as: shop.key, json })).body;
};
const get = async (path: string) => (await api.call("GET", path, { as: shop.key })).body;
const retryNow = () =>
  api.sql`update order_commands set due_at = now() - interval '1 second' where state = 'waiting' and attempts > 0`;

async function killOff(): Promise<void> {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    await handleAll(api);
    await retryNow();
  }
}

test("a command that fails is retried after 1 s, 5 s and 15 s, then it is a dead letter; its group waits, others don't", async () => {
  const poisoned = await place("sick", "poison");
  const behind = await place("sick");
  const other = await place("well");
  const delays: number[] = [];
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    await handleAll(api);
    const [command] =
      await api.sql`select state, attempts, round(extract(epoch from due_at - now()))::int as delay
      from order_commands where tenant_id = ${shop.tenantId} and id = ${poisoned.messageId}`;
    expect(command?.attempts).toBe(attempt);
    if (attempt < TRIES) {
      delays.push(command?.delay);
      expect([command?.state, await statusOf(api, shop.key, behind.id)]).toEqual(["waiting", "queued"]);
    } else expect(command?.state).toBe("dead");
    expect(await statusOf(api, shop.key, other.id)).toBe("pending");
    expect(await get("/queue/stats")).toMatchObject(
      attempt < TRIES
        ? { depth: 2, groups: 1, retrying: 1, dead: 0 }
        : { depth: 0, groups: 0, retrying: 0, dead: 1 },
    );
    await retryNow();
  }
  expect(delays).toEqual([1, 5, 15]);
  expect(await statusOf(api, shop.key, behind.id)).toBe("pending");
  expect(await statusOf(api, shop.key, poisoned.id)).toBe("queued");
  expect((await stockOf(api, shop, "p-1"))?.quantity).toBe(998);
  const metrics = (await api.call("GET", "/metrics")).body;
  expect(metrics).toMatch(/footfall_order_command_failures_total [4-9]/);
  expect(metrics).toMatch(/footfall_order_queue\{what="dead"\} [1-9]/);
});

test("one poison among a hundred orders of as many groups: ninety-nine are handled in the same pass", async () => {
  const ids: string[] = [];
  for (let n = 0; n < 100; n += 1) ids.push((await place(`g${n}`, n === 42 ? "poison" : "p-1")).id);
  expect(await handleAll(api)).toBe(100);
  const [row] = await api.sql`select count(*) filter (where status = 'pending')::int as pending,
    count(*) filter (where status = 'queued')::int as queued from orders where tenant_id = ${shop.tenantId}`;
  expect(row).toEqual({ pending: 99, queued: 1 });
  expect((await stockOf(api, shop, "p-1"))?.quantity).toBe(901);
});

test("a poison deep in a busy group is found by halving: what stands before it is handled in a few transactions", async () => {
  for (let n = 0; n < 60; n += 1) await place("busy", n === 50 ? "poison" : "p-1");
  let transactions = 0;
  const { db } = api.deps;
  const transaction: RunTransaction = (work) => {
    transactions += 1;
    return db.transaction(work);
  };
  const handling = createOrderHandling({ ...api.deps, db: { ...db, transaction } });
  // The fifty before it, and its own failure.
  expect(await handling.handle(shop.tenantId, ["busy"], "test")).toBe(51);
  expect(transactions).toBeLessThan(20);
  expect((await stockOf(api, shop, "p-1"))?.quantity).toBe(950);
});

test("dead letters are listed with the error, and retried at the end of their group", async () => {
  const poisoned = await place("g", "poison");
  await killOff();
  const { items } = await get("/queue/dead-letters");
  expect(items).toEqual([
    {
      id: poisoned.messageId,
      kind: "order_command",
      orderId: poisoned.id,
      groupId: "g",
      command: "create",
      attempts: TRIES,
      error: expect.stringContaining("poison"),
      receivedAt: expect.any(String),
      deadLetteredAt: expect.any(String),
    },
  ]);
  await place("g");
  await api.sql`update order_items set product_id = 'p-1' where order_id = ${poisoned.id}`;
  const retry = (id: string, as = shop.key) => api.call("POST", `/queue/dead-letters/${id}/retry`, { as });
  expect((await retry(poisoned.messageId, (await createTenant(api)).key)).status).toBe(404);
  expect((await retry(poisoned.messageId)).status).toBe(202);
  expect((await retry(poisoned.messageId)).status).toBe(404);
  const line = await api.sql`select id from order_commands
    where tenant_id = ${shop.tenantId} and group_id = 'g' and state = 'waiting' order by position`;
  expect(line.length).toBe(2);
  expect(line.at(-1)?.id).toBe(poisoned.messageId);
  await handleAll(api);
  expect(await statusOf(api, shop.key, poisoned.id)).toBe("pending");
  const audited =
    await api.sql`select action from audit_log where tenant_id = ${shop.tenantId} and target = ${poisoned.messageId}`;
  expect([...audited]).toEqual([{ action: "dead_letter.retried" }]);
});

test("the command line lists and retries them, too", async () => {
  const poisoned = await place("g", "poison");
  await killOff();
  const tenant = ["--tenant", shop.slug];
  const listed = await runFootfall(["dead-letters", "list", ...tenant], api.env);
  expect(listed.stdout).toContain(`${poisoned.messageId}  `);
  expect(listed.stdout).toContain(`create of order ${poisoned.id}  ${TRIES} tries`);
  const retried = await runFootfall(["dead-letters", "retry", poisoned.messageId, ...tenant], api.env);
  expect(retried).toMatchObject({ exitCode: 0, stderr: "" });
  expect((await get("/queue/stats")).dead).toBe(0);
});

test("purging cancels what waits, and nothing else; it is audited", async () => {
  const accepted = await place("g");
  await handleAll(api);
  const waiting = [await place("g"), await place("h")];
  await api.call("PUT", `/orders/${accepted.id}/status`, { as: shop.key, json: { status: "confirmed" } });
  const other = await createTenant(api);
  expect((await api.call("DELETE", "/queue/purge", { as: other.key })).body).toEqual({ purged: 0 });
  const { status, body } = await api.call("DELETE", "/queue/purge", { as: shop.key });
  expect([status, body]).toEqual([200, { purged: 2 }]);
  await handleAll(api);
  for (const { id, messageId } of waiting) {
    const order = await get(`/orders/${id}`);
    expect(order).toMatchObject({ status: "cancelled", reason: "purged" });
    expect(order.history).toMatchObject([{ messageId, from: "queued", to: "cancelled", reason: "purged" }]);
  }
  expect(await statusOf(api, shop.key, accepted.id)).toBe("confirmed");
  expect((await stockOf(api, shop, "p-1"))?.quantity).toBe(999);
  const audited =
    await api.sql`select after from audit_log where tenant_id = ${shop.tenantId} and action = 'queue.purged'`;
  expect([...audited]).toEqual([{ after: { orders: 2 } }]);
  const told =
    await api.sql`select count(*)::int as n from outbox where tenant_id = ${shop.tenantId} and topic = 'order.cancelled'`;
  expect(told[0]?.n).toBe(2);
});

test("an order that its owner had deleted is gone, though it was purged, or cancelled, before that", async () => {
  const purged = await place("g");
  expect((await api.call("DELETE", `/orders/${purged.id}`, { as: shop.key })).status).toBe(202);
  expect((await api.call("DELETE", "/queue/purge", { as: shop.key })).body).toEqual({ purged: 1 });
  const cancelled = await place("h");
  const json = { status: "cancelled" };
  expect((await api.call("PUT", `/orders/${cancelled.id}/status`, { as: shop.key, json })).status).toBe(202);
  expect((await api.call("DELETE", `/orders/${cancelled.id}`, { as: shop.key })).status).toBe(202);
  await handleAll(api);
  for (const { id } of [purged, cancelled])
    expect((await api.call("GET", `/orders/${id}`, { as: shop.key })).status).toBe(404);
  const reasons = await api.sql`select reason from orders where tenant_id = ${shop.tenantId} order by id`;
  expect([...reasons]).toEqual([{ reason: "purged" }, { reason: null }]);
});

test("purging goes on behind commands whose orders wait no longer", async () => {
  await place("g");
  await api.sql`insert into order_commands (tenant_id, group_id, position, id, order_id, kind, to_status, requested_by,
      state, created_at, due_at)
    select ${shop.tenantId}, 'a', n, gen_random_uuid(), gen_random_uuid(), 'create', 'pending', 'test', 'waiting', now(), now()
    from generate_series(1, 1500) n`;
  expect((await api.call("DELETE", "/queue/purge", { as: shop.key })).body).toEqual({ purged: 1 });
  const left =
    await api.sql`select from order_commands where tenant_id = ${shop.tenantId} and state = 'waiting'`;
  expect(left.length).toBe(0);
});

test("a command that a worker holds is neither purged nor handled by another one", async () => {
  const held = await place("held");
  const free = await place("free");
  await api.sql.begin(async (tx) => {
    await tx`select from order_commands where tenant_id = ${shop.tenantId} and id = ${held.messageId} for update`;
    expect(await api.deps.orderHandling.handle(shop.tenantId, ["held", "free"], "test")).toBe(1);
    expect((await api.call("DELETE", "/queue/purge", { as: shop.key })).body).toEqual({ purged: 0 });
  });
  expect([await statusOf(api, shop.key, held.id), await statusOf(api, shop.key, free.id)]).toEqual([
    "queued",
    "pending",
  ]);
  expect(await handleAll(api)).toBe(1);
});

test("who held a group looks again: what came meanwhile was announced to somebody who found it locked", async () => {
  const first = await place("g");
  const release = await holdTable(api, "order_history");
  const holder = api.deps.orderHandling.handle(shop.tenantId, ["g"], "holder");
  await untilBlocked(api, "test");
  const second = await place("g");
  expect(await api.deps.orderHandling.handle(shop.tenantId, ["g"], "other")).toBe(0);
  await release();
  expect(await holder).toBe(2);
  for (const { id } of [first, second]) expect(await statusOf(api, shop.key, id)).toBe("pending");
});

test("the consumer handles what is announced, and a redelivery once", async () => {
  const consumer = createOrderConsumer(api.deps, "consumer");
  await eventually(() => consumer.runOnce({ block: false }));
  const { id } = await place("g");
  const { redis, announcer } = api.deps;
  await eventually(async () => expect(await redis.xlen(ORDER_COMMANDS.key)).toBeGreaterThan(0));
  await announcer.announceOrders([{ tenantId: shop.tenantId, groupId: "g" }]);
  await redis.xadd(ORDER_COMMANDS.key, "*", "rubbish", "1");
  while ((await consumer.runOnce({ block: false })) > 0);
  expect(await statusOf(api, shop.key, id)).toBe("pending");
  expect(await redis.xlen(ORDER_COMMANDS.key)).toBe(0);
  expect((await stockOf(api, shop, "p-1"))?.quantity).toBe(999);
  await consumer.stop();
});

test("the sweeper finds what the stream forgot", async () => {
  const { id } = await place("g");
  await api.deps.redis.flushall();
  const sweeper = createOrderSweeper(api.deps, "sweeper");
  expect(await sweeper.runOnce()).toBe(0);
  await api.sql`update order_commands set due_at = now() - interval '1 second' where tenant_id = ${shop.tenantId}`;
  expect(await sweeper.runOnce()).toBe(1);
  expect(await statusOf(api, shop.key, id)).toBe("pending");
});

test("workers are told by their heartbeats, with this tenant's share only", async () => {
  expect(await get("/worker/status")).toEqual({ status: "stopped", alive: 0, workers: [] });
  const { tenantId } = shop;
  const orderHandling = { ...api.deps.orderHandling, inFlight: () => ({ [tenantId]: 3, other: 9 }) };
  const heartbeat = createHeartbeat({ ...api.deps, orderHandling }, "w-1");
  heartbeat.start();
  await eventually(async () =>
    expect(await get("/worker/status")).toEqual({
      status: "running",
      alive: 1,
      workers: [
        { name: "w-1", startedAt: expect.any(String), seenAt: expect.any(String), alive: true, inFlight: 3 },
      ],
    }),
  );
  expect(await get("/queue/stats")).toMatchObject({ inFlight: 3 });
  await place("g");
  await handleAll(api);
  expect(await get("/worker/stats")).toMatchObject({
    windowSeconds: 60,
    handled: 1,
    workers: [
      { name: "test", alive: false, handled: 1, applied: 1, refused: 0 },
      { name: "w-1", alive: true, handled: 0 },
    ],
  });
  await place("g");
  await api.sql`update order_commands set created_at = now() - interval '2 minutes' where tenant_id = ${shop.tenantId} and state = 'waiting'`;
  expect((await get("/worker/status")).status).toBe("stalled");
  expect((await get("/queue/stats")).oldestAgeMs).toBeGreaterThanOrEqual(120_000);
  await heartbeat.stop();
  await api.sql`insert into workers values ('dead', now(), now() - interval '20 seconds', ${api.sql.json({ [tenantId]: 5 })})`;
  expect(await get("/worker/status")).toMatchObject({
    status: "stopped",
    alive: 0,
    workers: [{ alive: false }],
  });
  expect((await get("/queue/stats")).inFlight).toBe(0);
});

test("all of it is for administrators", async () => {
  const { token } = await createPerson(api, shop.tenantId, "analyst");
  for (const path of ["/queue/stats", "/queue/dead-letters", "/worker/status", "/worker/stats"])
    expect((await api.call("GET", path, { as: token })).status).toBe(403);
  expect((await api.call("DELETE", "/queue/purge", { as: token })).status).toBe(403);
});

test("housekeeping deletes what is done with, and leaves what is not", async () => {
  await place("g");
  await handleAll(api);
  await place("g");
  await api.sql`update order_commands set finished_at = now() - interval '8 days' where state = 'done'`;
  await api.sql`insert into order_deduplications values
    (${shop.tenantId}, '', 'old', gen_random_uuid(), gen_random_uuid(), now() - interval '1 minute'),
    (${shop.tenantId}, '', 'new', gen_random_uuid(), gen_random_uuid(), now() + interval '1 minute')`;
  await api.deps.orders.prune();
  const commands = await api.sql`select state from order_commands where tenant_id = ${shop.tenantId}`;
  const ids =
    await api.sql`select deduplication_id as id from order_deduplications where tenant_id = ${shop.tenantId}`;
  expect([[...commands], [...ids]]).toEqual([[{ state: "waiting" }], [{ id: "new" }]]);
});
