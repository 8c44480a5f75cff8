import { isUuid } from "../../core/ids.ts";
import type { Transaction } from "../../db/transaction.ts";

/** What of an event says that it may be a sales fact of ours. */
export interface MaybeSale {
  /** RFC 3339. */
  ts: string;
  messageId: string | null;
  properties: Record<string, unknown> | null;
}

/**
 * G6: why a sales fact can't be voided; null for any other event. Ours has no messageId and was
 * written at the very instant of the purchase or of the order's transition. So an event that
 * somebody else sent about the same order does not count as ours. Of orders with pruned history
 * nothing is known.
 */
export async function whySaleIsKept(
  tx: Transaction,
  tenantId: string,
  { ts, messageId, properties }: MaybeSale,
): Promise<string | null> {
  const { purchaseId, orderId } = properties ?? {};
  if (messageId !== null) return null;
  if (isId(purchaseId)) {
    const made = await tx`
      select from purchases where tenant_id = ${tenantId} and id = ${purchaseId} and created_at = ${ts}`;
    if (made.length > 0)
      return `This is purchase ${purchaseId}, which was made here, and revenue equals the purchases: send a refund event instead.`;
  }
  if (isId(orderId)) {
    const moved = await tx`
      select from order_history where tenant_id = ${tenantId} and order_id = ${orderId} and at = ${ts} and outcome = 'applied'`;
    if (moved.length > 0)
      return `This belongs to order ${orderId}, which was placed here, and revenue equals the orders: cancel the order instead.`;
  }
  return null;
}

function isId(value: unknown): value is string {
  return typeof value === "string" && isUuid(value);
}
