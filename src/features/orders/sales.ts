import { idAt, newId } from "../../core/ids.ts";
import type { Transaction } from "../../db/transaction.ts";
import { insertBatches } from "../events/index.ts";

/**
 * G6: sales facts are events of type `purchase` and `refund`, written with a ledger row of their
 * own in the transaction of the sale. They reach the rollups as every event does, exactly once.
 * Analytics have no other source of sales.
 */
export interface Sale {
  type: "purchase" | "refund";
  productId: string;
  /** The unique user that analytics count: a person's id, or a name for somebody who has none. */
  userId: string | null;
  anonymousId: string | null;
  quantity: number;
  /** Exact decimal text. */
  unitPrice: string;
  /** What it belongs to, e.g. `{ orderId }`. */
  properties: object;
}

/** What to announce after the commit. */
export interface SalesBatch {
  tenantId: string;
  batchId: string;
  minMs: number;
  maxMs: number;
}

/** Call it in the transaction of the sale. Null when there is nothing to write. */
export async function writeSales(
  tx: Transaction,
  tenantId: string,
  nowMs: number,
  sales: readonly Sale[],
): Promise<SalesBatch | null> {
  if (sales.length === 0) return null;
  const batchId = newId();
  const events = sales.map(({ properties, ...sale }) => ({
    ...sale,
    id: idAt(nowMs),
    tsMs: nowMs,
    sessionId: null,
    messageId: null,
    messageKey: null,
    amount: null,
    // As in the events that others send: an exported sale can be imported elsewhere.
    properties: JSON.stringify({ ...properties, quantity: sale.quantity, price: Number(sale.unitPrice) }),
    context: null,
  }));
  await insertBatches(tx, [
    { tenantId, batchId, receivedAtMs: nowMs, received: events.length, rejected: 0, events },
  ]);
  return { tenantId, batchId, minMs: nowMs, maxMs: nowMs };
}
