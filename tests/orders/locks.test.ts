/** A stranger's lock on a product delays the orders that need it, and nothing more. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { ORDER_COMMANDS } from "../../src/streams/topology.ts";
import { createOrderConsumer } from "../../worker/consumers/orders.ts";
import { createOrderSweeper } from "../../worker/jobs/order-sweeper.ts";
import { type Answer, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { blockedBackends } from "../faults/stage.ts";
import { cleanup, eventually } from "../harness.ts";
import { createProduct, handleAll, orderInput, statusOf, stockOf } from "./shop.ts";

let api: TestApi;
let shop: TestTenant;

beforeAll(async () => {
  api = await createTestApi({ REQUEST_TIMEOUT_MS: "9000" });
});
afterAll(cleanup);
beforeEach(async () => {
  await api.sql`update order_commands set state = 'done', outcome = 'purged', finished_at = now() where state = 'waiting'`;
  shop = await openShop();
});

async function openShop(): Promise<TestTenant> {
  const tenant = await createTenant(api);
  for (const id of ["held", "free"]) await createProduct(api, tenant, id);
  return tenant;
}

const place = async (productId: string, groupId: string, { key } = shop): Promise<{ id: string }> => {
  const json = orderInput({ groupId, items: [{ productId, quantity: 1 }] });
  return (await api.call("POST", "/orders", { as: key, json })).body;
};
const makeDue = () =>
  api.sql`update order_commands set due_at = now() - interval '1 second' where state = 'waiting'`;

/** Locks a product as an administrator's transaction does, until released. */
async function hold({ tenantId } = shop): Promise<() => Promise<void>> {
  const holder = await api.sql.reserve();
  await holder`begin`;
  await holder`select from products where tenant_id = ${tenantId} and id = 'held' for update`;
  return async () => {
    await holder`rollback`;
    holder.release();
  };
}

test("a lock counts as no try, however often it is met: the order waits, and is handled when it is free", async () => {
  const orders = [await place("held", "g"), await place("held", "h")];
  const release = await hold();
  for (let round = 0; round < 5; round += 1) {
    expect(await api.deps.orderHandling.handle(shop.tenantId, ["g", "h"], "test")).toBe(0);
    const waiting = await api.sql`select state, attempts, due_at > now() as later from order_commands
      where tenant_id = ${shop.tenantId} group by 1, 2, 3`;
    expect([...waiting]).toEqual([{ state: "waiting", attempts: 0, later: true }]);
    await makeDue();
  }
  await release();
  expect(await handleAll(api)).toBe(2);
  for (const { id } of orders) expect(await statusOf(api, shop.key, id)).toBe("pending");
  expect((await stockOf(api, shop, "held"))?.quantity).toBe(98);
});

test("a statement that alone takes too long counts as no try, either", async () => {
  const { id } = await place("free", "g");
  const [slow] = await api.sql<
    { id: string }[]
  >`select id from order_commands where tenant_id = ${shop.tenantId}`;
  await api.sql.unsafe(`create function dawdle() returns trigger language plpgsql as $$ begin
    if new.id = '${slow?.id}' and new.state = 'done' then raise sqlstate '57014'; end if; return new; end $$`);
  await api.sql`create trigger dawdle before update on order_commands for each row execute function dawdle()`;
  expect(await api.deps.orderHandling.handle(shop.tenantId, ["g"], "test")).toBe(0);
  await api.sql`drop trigger dawdle on order_commands`;
  const [command] =
    await api.sql`select state, attempts from order_commands where tenant_id = ${shop.tenantId}`;
  expect(command).toEqual({ state: "waiting", attempts: 0 });
  await makeDue();
  expect(await handleAll(api)).toBe(1);
  expect(await statusOf(api, shop.key, id)).toBe("pending");
});

test("the orders of others are handled beside a tenant whose product is locked, by the consumer and by the sweeper", async () => {
  const others = [await openShop(), await openShop(), await openShop()];
  const consumer = createOrderConsumer(api.deps, "consumer");
  await eventually(() => consumer.runOnce({ block: false }));
  while ((await consumer.runOnce({ block: false })) > 0);
  const release = await hold();
  const held = await place("held", "g");
  const orders: { id: string; key: string }[] = [];
  for (const other of others) orders.push({ ...(await place("free", "g", other)), key: other.key });
  const { redis } = api.deps;
  await eventually(async () => expect(await redis.xlen(ORDER_COMMANDS.key)).toBe(4));
  while ((await consumer.runOnce({ block: false })) > 0);
  for (const { id, key } of orders) expect(await statusOf(api, key, id)).toBe("pending");
  for (const other of others) orders.push({ ...(await place("free", "h", other)), key: other.key });
  await makeDue();
  expect(await createOrderSweeper(api.deps, "sweeper").runOnce()).toBe(3);
  for (const { id, key } of orders) expect(await statusOf(api, key, id)).toBe("pending");
  expect(await statusOf(api, shop.key, held.id)).toBe("queued");
  await release();
  await consumer.stop();
});

test("stock that is given back to a shelf that was filled meanwhile stays at the catalogue's bound", async () => {
  const { id } = await place("free", "g");
  await handleAll(api);
  const as = shop.key;
  for (const quantity of [1_000_000_000, 2_147_483_647]) {
    await api.sql`update products set quantity = ${quantity} where tenant_id = ${shop.tenantId} and id = 'free'`;
    const json = orderInput({ groupId: `${quantity}`, items: [{ productId: "free", quantity: 5 }] });
    const bought = (await api.call("POST", "/orders", { as, json })).body;
    await handleAll(api);
    await api.sql`update products set quantity = ${quantity} where tenant_id = ${shop.tenantId} and id = 'free'`;
    expect((await api.call("DELETE", `/orders/${bought.id}`, { as })).status).toBe(202);
    expect(await handleAll(api)).toBe(1);
    expect((await stockOf(api, shop, "free"))?.quantity).toBe(quantity);
  }
  expect((await api.call("GET", "/queue/stats", { as })).body).toMatchObject({ dead: 0, retrying: 0 });
  expect(await statusOf(api, as, id)).toBe("pending");
});

/**
 * Sends ten requests of the shop that meet a lock. Returns their statuses after a stranger's and
 * theirs.
 */
async function meetLock(release: () => Promise<void>, send: (tenant: TestTenant) => Promise<Answer>) {
  const other = await openShop();
  const stuck = Array.from({ length: 10 }, () => send(shop));
  const stranger = await send(other);
  const statuses = new Set((await Promise.all(stuck)).map(({ status }) => status));
  await release();
  // All that was ever sent to Postgres is over.
  await eventually(async () => expect((await blockedBackends(api, "test")).length).toBe(0));
  return { stranger: stranger.status, stuck: [...statuses] };
}

test("a buyer who is told 503 has not bought, and buyers of other tenants don't wait for a locked product", async () => {
  const buy = ({ key }: TestTenant) =>
    api.call("POST", "/purchases", { as: key, json: { productId: "held" } });
  expect(await meetLock(await hold(), buy)).toEqual({ stranger: 201, stuck: [503] });
  expect((await buy(shop)).status).toBe(201);
  expect((await stockOf(api, shop, "held"))?.quantity).toBe(99);
});

test("an order that is told 503 was not placed, and those of other tenants don't wait for a locked group", async () => {
  const order = ({ key }: TestTenant) => api.call("POST", "/orders", { as: key, json: orderInput() });
  expect((await order(shop)).status).toBe(202);
  const holder = await api.sql.reserve();
  await holder`begin`;
  await holder`select from order_groups where tenant_id = ${shop.tenantId} for update`;
  const release = async () => {
    await holder`rollback`;
    holder.release();
  };
  expect(await meetLock(release, order)).toEqual({ stranger: 202, stuck: [503] });
  expect((await order(shop)).status).toBe(202);
  const [row] = await api.sql`select count(*)::int as n from orders where tenant_id = ${shop.tenantId}`;
  expect(row?.n).toBe(2);
});
