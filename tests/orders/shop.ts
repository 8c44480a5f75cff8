import type { Sql } from "postgres";
import type { OrderStatus } from "../../src/features/orders/schema.ts";
import type { TestApi, TestTenant } from "../factories.ts";

/** A shop's stock and what its clients send, for the tests of this folder. */
export interface ProductSettings {
  price?: string;
  quantity?: number | null;
  status?: "active" | "inactive";
  lowStockThreshold?: number | null;
  deleted?: boolean;
}

export async function createProduct(
  { sql }: { sql: Sql },
  { tenantId }: Pick<TestTenant, "tenantId">,
  id: string,
  settings: ProductSettings = {},
): Promise<void> {
  const { price = "10.00", quantity = 100, status = "active", lowStockThreshold = null, deleted } = settings;
  await sql`
    insert into products (tenant_id, id, name, price, quantity, status, low_stock_threshold, created_at, updated_at, deleted_at)
    values (${tenantId}, ${id}, ${`Product ${id}`}, ${price}, ${quantity}, ${status}, ${lowStockThreshold}, now(), now(),
      ${deleted ? sql`now()` : null})`;
}

export async function stockOf({ sql }: { sql: Sql }, { tenantId }: Pick<TestTenant, "tenantId">, id: string) {
  const [row] = await sql<{ quantity: number | null; version: number }[]>`
    select quantity, version from products where tenant_id = ${tenantId} and id = ${id}`;
  return row;
}

export function orderInput(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    customerName: "Ada",
    customerEmail: "ada@example.com",
    items: [{ productId: "p-1", quantity: 1 }],
    ...overrides,
  };
}

/** Handles all that is due, as a worker does but without its delays; returns how many commands. */
export async function handleAll({ deps, sql }: Pick<TestApi, "deps" | "sql">): Promise<number> {
  await sql`update order_commands set due_at = now() - interval '1 second' where state = 'waiting' and attempts = 0`;
  let handled = 0;
  for (;;) {
    const due = await deps.orderHandling.findDue(1_000);
    let round = 0;
    for (const [tenantId, groups] of Map.groupBy(due, (group) => group.tenantId))
      round += await deps.orderHandling.handle(
        tenantId,
        groups.map(({ groupId }) => groupId),
        "test",
      );
    if (round === 0) return handled;
    handled += round;
  }
}

export async function statusOf(
  { call }: Pick<TestApi, "call">,
  as: string,
  id: string,
): Promise<OrderStatus> {
  return (await call("GET", `/orders/${id}`, { as })).body.status;
}

/** From now on, Postgres refuses to have an order accepted that holds the product `poison`. */
export async function poisonOrders({ sql }: { sql: Sql }): Promise<void> {
  await sql`alter table order_items add constraint poison check (product_id <> 'poison' or unit_price is null)`;
}
