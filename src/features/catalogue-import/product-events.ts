import type { DomainEvent } from "../../core/domain-events.ts";
import { isLowStockCrossing, lowStockEvents, type Product, productEvent } from "../products/index.ts";
import type { ProductChange, StoredProduct } from "./plan-batch.ts";

/**
 * What a change tells, as a change by the API would: a product that comes back has no state before.
 * Only webhooks are told: a million notifications help nobody.
 */
export function changeEvent(change: ProductChange, currency: string): DomainEvent {
  const { before, after } = transitionOf(change);
  const isBack = before === null && change.before !== null;
  const verb = isBack ? "restored" : before === null ? "created" : "updated";
  const event = productEvent(verb, {
    before: before && shown(before, currency),
    after: shown(after, currency),
  });
  return { ...event, consumers: ["webhooks"] };
}

/** A new product, and one that comes back, has not crossed anything. */
export function crossingEvents(
  change: ProductChange,
  tenantThreshold: number,
  currency: string,
): DomainEvent[] {
  const { before, after } = transitionOf(change);
  // The rows are compared first: building what the API shows, twice for each of a million rows,
  // would take longer.
  if (before === null || !isLowStockCrossing(before, after, tenantThreshold)) return [];
  return lowStockEvents(shown(before, currency), shown(after, currency), tenantThreshold);
}

function transitionOf({ before, after }: ProductChange) {
  return { before: before?.deletedAt === null ? before : null, after };
}

/** As the API shows it. */
function shown(product: StoredProduct, currency: string): Product {
  const { price, createdAt, updatedAt, deletedAt: _, ...rest } = product;
  return {
    ...rest,
    price: Number(price),
    currency,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}
