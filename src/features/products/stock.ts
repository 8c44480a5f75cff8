import type { DomainEvent } from "../../core/domain-events.ts";
import { MAX_QUANTITY } from "../../core/product-fields.ts";
import type { Transaction } from "../../db/transaction.ts";

/**
 * Stock as sales move it (G5). A sale locks its products in the order of their ids, so that sales
 * never deadlock. It decides and moves the stock in the same transaction. Stock moved by a sale
 * makes a new version of the product, but no `product.updated`: that would be one event a sale.
 * Only the crossing of the threshold is told.
 */
export interface Shelf {
  id: string;
  name: string;
  sellerId: string | null;
  /** Exact decimal text. */
  price: string;
  /** Null: stock is not tracked. */
  quantity: number | null;
  lowStockThreshold: number;
  /** A deleted product is locked, too: cancelled orders give their stock back to it. */
  deleted: boolean;
  active: boolean;
}

/**
 * Locks these products until the transaction ends. Products that don't exist are absent from the
 * result.
 */
export async function lockShelves(
  tx: Transaction,
  tenantId: string,
  productIds: readonly string[],
): Promise<Map<string, Shelf>> {
  if (productIds.length === 0) return new Map();
  const shelves = await tx<Shelf[]>`
    select p.id, p.name, p.seller_id as "sellerId", p.price::text as price, p.quantity, p.status = 'active' as active,
      p.deleted_at is not null as deleted, coalesce(p.low_stock_threshold, t.low_stock_threshold) as "lowStockThreshold"
    from products p join tenants t on t.id = p.tenant_id
    where p.tenant_id = ${tenantId} and t.id = ${tenantId} and p.id = any(${[...productIds]}::text[])
    order by p.id for no key update of p`;
  return new Map(shelves.map((shelf) => [shelf.id, shelf]));
}

/**
 * Adds `delta` pieces (negative for a sale) to products that the caller has locked. Throws when one
 * would fall below zero. Stock given back to a full shelf (somebody set a new quantity meanwhile)
 * stays at the catalogue's bound.
 */
export async function moveStock(
  tx: Transaction,
  tenantId: string,
  moves: ReadonlyMap<string, number>,
): Promise<void> {
  const rows = [...moves].map(([id, delta]) => ({ id, delta })).filter(({ delta }) => delta !== 0);
  if (rows.length === 0) return;
  const moved = await tx`
    update products p set version = p.version + 1, updated_at = now(),
      quantity = case when p.quantity is not null
        then least(p.quantity + m.delta, greatest(p.quantity, ${MAX_QUANTITY}::int)) end
    from jsonb_to_recordset(${tx.json(rows)}) as m(id text, delta bigint)
    where p.tenant_id = ${tenantId} and p.id = m.id and (p.quantity is null or p.quantity + m.delta >= 0)
    returning p.id`;
  if (moved.length !== rows.length) throw new Error("stock would fall below zero");
}

/**
 * The event of stock that has just fallen from above the threshold to it or below; null when it has
 * not. Its states are those of `product.updated` without what a sale neither knows nor changes.
 */
export function lowStockEvent(shelf: Shelf, before: number, after: number): DomainEvent | null {
  const { id, name, sellerId, price, lowStockThreshold: threshold } = shelf;
  if (before <= threshold || after > threshold) return null;
  const state = (quantity: number) => ({ id, sellerId, name, price: Number(price), quantity });
  return {
    topic: "product.lowstock",
    subjectId: id,
    sellerId,
    payload: { before: state(before), after: state(after), threshold },
  };
}
