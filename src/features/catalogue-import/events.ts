import type { Topic } from "../../core/domain-events.ts";
import { newId } from "../../core/ids.ts";
import type { ProductChange, StoredProduct } from "./plan-batch.ts";

/** A row of the outbox. */
export interface ImportEvent {
  id: string;
  topic: Topic;
  subjectId: string;
  sellerId: string | null;
  payload: object;
}

/** What webhooks are told of a change: the states before and after, as the API shows them. */
export function changeEvent({ before, after }: ProductChange, currency: string): ImportEvent {
  const restored = before !== null && before.deletedAt !== null;
  const topic = before === null ? "product.created" : restored ? "product.restored" : "product.updated";
  const payload = { before: before && shown(before, currency), after: shown(after, currency) };
  return { id: newId(), topic, subjectId: after.id, sellerId: after.sellerId, payload };
}

/**
 * The crossing from above the threshold (or from a stock that is not tracked) to it or below. A new product, and one that
 * comes back, has not crossed anything.
 */
export function lowStockEvent(
  { before, after }: ProductChange,
  tenantThreshold: number,
  currency: string,
): ImportEvent | null {
  const threshold = after.lowStockThreshold ?? tenantThreshold;
  const wasAbove =
    before !== null && before.deletedAt === null && (before.quantity === null || before.quantity > threshold);
  if (!wasAbove || after.quantity === null || after.quantity > threshold) return null;
  const payload = { product: shown(after, currency), threshold };
  return { id: newId(), topic: "product.lowstock", subjectId: after.id, sellerId: after.sellerId, payload };
}

function shown(product: StoredProduct, currency: string) {
  const { price, createdAt, updatedAt, deletedAt: _, ...rest } = product;
  return {
    ...rest,
    price: Number(price),
    currency,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}
