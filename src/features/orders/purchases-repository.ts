import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Purchase } from "./schema.ts";

export interface PurchaseRow extends Omit<Purchase, "createdAt"> {
  createdAt: Date;
}

export async function insertPurchase(
  tx: Transaction,
  tenantId: string,
  purchase: Omit<Purchase, "unitPrice" | "amount"> & { unitPrice: string },
): Promise<PurchaseRow> {
  const { id, userId, productId, quantity, unitPrice, createdAt } = purchase;
  const [row] = await tx<PurchaseRow[]>`
    insert into purchases (tenant_id, id, user_id, product_id, quantity, unit_price, created_at)
    values (${tenantId}, ${id}, ${userId}, ${productId}, ${quantity}, ${unitPrice}, ${createdAt})
    returning ${columns(tx)}`;
  if (!row) throw new Error("an inserted row must come back");
  return row;
}

/** Newest first, by keyset (`before`) or by `offset`. */
export async function selectPurchases(
  sql: Sql,
  tenantId: string,
  userId: string,
  page: { limit: number; before?: { createdAt: string; id: string }; offset?: number },
): Promise<PurchaseRow[]> {
  const { limit, before, offset = 0 } = page;
  return sql<PurchaseRow[]>`
    select ${columns(sql)} from purchases
    where tenant_id = ${tenantId} and user_id = ${userId}
      ${before === undefined ? sql`` : sql`and (created_at, id) < (${before.createdAt}::timestamptz, ${before.id}::uuid)`}
    order by created_at desc, id desc limit ${limit} offset ${offset}`;
}

export async function countPurchases(sql: Sql, tenantId: string, userId: string): Promise<number> {
  const [row] = await sql<{ total: number }[]>`
    select count(*)::int as total from purchases where tenant_id = ${tenantId} and user_id = ${userId}`;
  return row?.total ?? 0;
}

function columns(sql: Sql | Transaction) {
  return sql`id, product_id as "productId", user_id as "userId", quantity, unit_price::float8 as "unitPrice",
    (quantity * unit_price)::float8 as amount, created_at as "createdAt"`;
}
