import { expect } from "bun:test";
import { operatorContext } from "../../src/core/principal.ts";
import type { Random } from "../../src/features/seeding/random.ts";
import { ORDER_COMMANDS } from "../../src/streams/topology.ts";
import { rollUpAll, type TestTenant } from "../factories.ts";
import { verify } from "../faults/invariants.ts";
import type { Stage } from "../faults/stage.ts";
import { createProduct } from "./shop.ts";

/**
 * A shop under trade: many customers order, confirm and cancel. Then what must hold once all is
 * quiet.
 */
export interface TradeOptions {
  url: string;
  tenant: TestTenant;
  orders: number;
  groups: number;
  clients: number;
  rngOf(stream: number): Random;
}

const PRODUCTS = 40;
/** Of these products there is too little for everybody. */
const SCARCE = 5;
const SCARCE_PIECES = 12;
const PLENTY = 1_000_000;
const POISON_SHARE = 0.002;

/**
 * The shop's stock, and a witness: a table in which the database itself records every effect in the
 * order of writing, whatever the product believes. Stock below zero is an error of the database.
 */
export async function openShop({ sql }: Stage, tenant: TestTenant): Promise<void> {
  await createProduct({ sql }, tenant, "poison", { quantity: PLENTY });
  for (let n = 0; n < PRODUCTS; n += 1)
    await createProduct({ sql }, tenant, `p${n}`, {
      price: (1 + n * 1.37).toFixed(2),
      quantity: initialStock(`p${n}`),
    });
}

/** `poison` is as plentiful as most. */
function initialStock(id: string): number {
  return Number(id.slice(1)) < SCARCE ? SCARCE_PIECES : PLENTY;
}

export async function installWitness({ sql }: Stage): Promise<void> {
  await sql`create table witness (seq bigserial primary key, order_id uuid, position bigint, outcome text)`;
  await sql`create function note() returns trigger language plpgsql as
    'begin insert into witness (order_id, position, outcome) values (new.order_id, new.position, new.outcome); return new; end'`;
  await sql`create trigger witness after insert on order_history for each row execute function note()`;
  await sql`alter table products add constraint never_below_zero check (quantity >= 0)`;
}

export interface Trade {
  /** Ids of the orders that were acknowledged, in no order. */
  placed: string[];
  /** Message ids of the commands that can't be handled. */
  poisoned: Set<string>;
  done: Promise<void>;
}

/**
 * Every client repeats a request until it is acknowledged. Orders carry a deduplicationId, so a
 * repeat makes no second one.
 */
export function startTrade({ url, tenant, orders, groups, clients, rngOf }: TradeOptions): Trade {
  const placed: string[] = [];
  const poisoned = new Set<string>();
  const headers = { authorization: `Bearer ${tenant.key}`, "content-type": "application/json" };
  let next = 0;

  async function send(method: string, path: string, body?: object) {
    for (let attempt = 0; attempt < 200; attempt += 1) {
      const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) }).catch(
        () => null,
      );
      // biome-ignore lint/suspicious/noExplicitAny: whatever the answer holds
      const json: any = await answer?.json().catch(() => null);
      if (answer && answer.status < 500) return { status: answer.status, body: json };
      await Bun.sleep(20);
    }
    throw new Error(`${method} ${path} is not answered`);
  }

  async function place(random: Random, n: number): Promise<void> {
    const poison = random.chance(POISON_SHARE) || n === 7;
    const line = () => ({ productId: `p${random.between(0, PRODUCTS - 1)}`, quantity: random.between(1, 3) });
    // Alone, or it could be refused for lack of other stock before it does harm.
    const items = poison
      ? [{ productId: "poison", quantity: 1 }]
      : Array.from({ length: random.between(1, 4) }, line);
    const { status, body } = await send("POST", "/orders", {
      customerName: "Ada",
      customerEmail: "ada@example.com",
      groupId: `group-${random.between(0, groups - 1)}`,
      deduplicationId: `order-${n}`,
      items,
    });
    expect(status).toBe(202);
    placed.push(body.id);
    if (poison) poisoned.add(body.messageId);
  }

  /**
   * A change of some earlier order. The expected status (202, 404, 409) depends on how far the
   * workers are.
   */
  async function change(random: Random): Promise<void> {
    const id = placed[random.between(0, placed.length - 1)];
    const { status } = random.chance(0.3)
      ? await send("DELETE", `/orders/${id}`)
      : await send("PUT", `/orders/${id}/status`, { status: random.chance(0.5) ? "confirmed" : "cancelled" });
    expect([202, 404, 409]).toContain(status);
  }

  async function client(number: number): Promise<void> {
    const random = rngOf(1_000 + number);
    for (let n = next++; n < orders; n = next++) {
      await place(random, n);
      if (random.chance(0.3)) await change(random);
    }
  }

  return {
    placed,
    poisoned,
    done: Promise.all(Array.from({ length: clients }, (_, n) => client(n))).then(() => {}),
  };
}

export async function countWaiting({ sql }: Stage): Promise<number> {
  const [row] = await sql<
    { n: number }[]
  >`select count(*)::int as n from order_commands where state = 'waiting'`;
  return row?.n ?? 0;
}

/** G5 and G6, once nothing waits any more. */
export async function expectTradeRight(
  stage: Stage,
  tenant: TestTenant,
  trade: Trade,
  seed: string,
): Promise<void> {
  await expectEffectsOnceInOrder(stage, tenant, seed);
  await expectStock(stage, tenant, seed);
  await expectRevenue(stage, tenant, seed);
  const { sql, deps } = stage;
  const [orders] = await sql`select count(*)::int as n from orders where tenant_id = ${tenant.tenantId}`;
  expect(orders?.n, `${seed}: every acknowledged order is there once`).toBe(new Set(trade.placed).size);
  const dead = await sql<
    { id: string }[]
  >`select id from order_commands where tenant_id = ${tenant.tenantId} and state = 'dead'`;
  expect(dead.map(({ id }) => id).sort(), `${seed}: the dead letters are the poison set`).toEqual(
    [...trade.poisoned].sort(),
  );
  const pending = await deps.redis.xpending(ORDER_COMMANDS.key, ORDER_COMMANDS.group).catch(() => [0]);
  expect(pending[0], `${seed}: nothing is pending on the stream`).toBe(0);
}

/** The witness has every done command once, and those of a group in their order. */
export async function expectEffectsOnceInOrder(
  { sql }: Stage,
  { tenantId }: TestTenant,
  seed: string,
): Promise<void> {
  const twice = await sql`
    select w.order_id, w.position from witness w join orders o on o.id = w.order_id
    where o.tenant_id = ${tenantId} group by 1, 2 having count(*) > 1`;
  expect([...twice], `${seed}: no effect happened twice`).toEqual([]);
  const missing = await sql`
    select c.group_id, c.position from order_commands c
    where c.tenant_id = ${tenantId} and c.state = 'done'
      and not exists (select from witness w where w.order_id = c.order_id and w.position = c.position)`;
  expect([...missing], `${seed}: every done command had its effect`).toEqual([]);
  const turned = await sql`
    select * from (
      select o.group_id, w.position, lag(w.position) over (partition by o.group_id order by w.seq) as before
      from witness w join orders o on o.id = w.order_id where o.tenant_id = ${tenantId}
    ) line where position < before limit 5`;
  expect([...turned], `${seed}: inside a group, effects are in order`).toEqual([]);
}

/** stock = initial - sold + cancelled, recounted from orders and purchases alone. */
export async function expectStock({ sql }: Stage, { tenantId }: TestTenant, seed: string): Promise<void> {
  const rows = await sql<{ id: string; quantity: number; held: number }[]>`
    select p.id, p.quantity, coalesce(h.held, 0)::int as held from products p
    left join (
      select i.product_id, sum(i.quantity) as held from order_items i
      join orders o on o.tenant_id = i.tenant_id and o.id = i.order_id
      where i.tenant_id = ${tenantId} and o.status in ('pending', 'confirmed', 'shipped', 'delivered')
      group by i.product_id
    ) h on h.product_id = p.id
    where p.tenant_id = ${tenantId}`;
  expect(rows.length).toBe(PRODUCTS + 1);
  const wrong = rows.filter(({ id, quantity, held }) => quantity !== initialStock(id) - held);
  expect(wrong, `${seed}: stock = initial - sold + cancelled`).toEqual([]);
}

/** Analytics tell the sum of the orders to the cent, and the rollups equal the raw events. */
export async function expectRevenue(stage: Stage, { tenantId }: TestTenant, seed: string): Promise<void> {
  const { sql, deps } = stage;
  await rollUpAll(stage);
  const [sums] = await sql<{ orders: string; rollups: string }[]>`
    select (select coalesce(sum(i.quantity * i.unit_price), 0)::numeric(20, 2)::text from order_items i
        join orders o on o.tenant_id = i.tenant_id and o.id = i.order_id
        where i.tenant_id = ${tenantId} and o.status in ('pending', 'confirmed', 'shipped', 'delivered')) as orders,
      (select coalesce(sum(revenue), 0)::numeric(20, 2)::text from event_hourly_stats where tenant_id = ${tenantId}) as rollups`;
  expect(sums?.rollups, `${seed}: analytics revenue = sum of orders`).toBe(sums?.orders as string);
  const summary = await deps.analytics.getSummary(operatorContext(tenantId), {
    days: 2,
    groupBy: "day",
    skipCache: "true",
  } as never);
  const { totals } = summary.value;
  expect(totals.revenue, `${seed}: so does the summary`).toBe(Number(sums?.orders));
  const { differing, waiting, dead } = await verify(stage, tenantId);
  expect({ differing, waiting, dead }, `${seed}: verify is clean`).toEqual({
    differing: 0,
    waiting: 0,
    dead: 0,
  });
}
