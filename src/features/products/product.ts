import type { DomainEvent } from "../../core/domain-events.ts";
import type { Product, ProductReplacement } from "./schema.ts";

/** A product as its row has it: the currency is the tenant's. */
export type StoredProduct = Omit<Product, "currency">;
/** What a writer decides. `price` is exact: a double names every amount of twelve digits. */
export type ProductFields = Omit<StoredProduct, "id" | "version" | "createdAt" | "updatedAt">;

export const BLANK_PRODUCT = {
  sellerId: null,
  sku: null,
  description: null,
  quantity: null,
  category: null,
  imageUrl: null,
  lowStockThreshold: null,
  status: "active",
} as const;

/** A whole product of what a body names. */
export function completeProduct(given: ProductReplacement): ProductFields {
  return { ...BLANK_PRODUCT, ...given };
}

const FIELDS = ["name", "price", ...(Object.keys(BLANK_PRODUCT) as (keyof typeof BLANK_PRODUCT)[])] as const;
type Comparable = Readonly<Record<(typeof FIELDS)[number], string | number | null>>;

export function isSameProduct(before: Comparable, after: Comparable): boolean {
  return FIELDS.every((field) => before[field] === after[field]);
}

/** The two states that an event tells; null where there was or is none. */
export interface Transition {
  before: Product | null;
  after: Product | null;
}

export function productEvent(
  verb: "created" | "updated" | "deleted" | "restored",
  { before, after }: Transition,
): DomainEvent {
  const subject = after ?? before;
  return {
    topic: `product.${verb}`,
    subjectId: subject?.id ?? "",
    sellerId: subject?.sellerId ?? null,
    payload: { before, after },
  };
}

type Stock = Pick<Product, "quantity" | "lowStockThreshold">;

/**
 * A change of a product. When it goes to another seller, the former one is told what it had and the
 * new one what it has; neither may see the other's. The shop's people see both, and its webhooks
 * are told in one message.
 */
export function changeEvents(before: Product, after: Product): DomainEvent[] {
  const change = productEvent("updated", { before, after });
  if (before.sellerId === after.sellerId) return [change];
  return [
    { ...change, consumers: ["webhooks"] },
    { ...productEvent("updated", { before, after: null }), consumers: ["notifications"] },
    { ...productEvent("updated", { before: null, after }), consumers: ["notifications"] },
  ];
}

/**
 * Whether a change takes tracked stock from above its threshold to it or below. It counts once a
 * crossing: stock that is low already, or was not tracked before, crosses nothing.
 * `tenantThreshold` applies where the product has none.
 */
export function isLowStockCrossing(before: Stock, after: Stock, tenantThreshold: number): boolean {
  const wasAbove =
    before.quantity !== null && before.quantity > (before.lowStockThreshold ?? tenantThreshold);
  return (
    wasAbove && after.quantity !== null && after.quantity <= (after.lowStockThreshold ?? tenantThreshold)
  );
}

/** product.lowstock, when the change is such a crossing. */
export function lowStockEvents(before: Product, after: Product, tenantThreshold: number): DomainEvent[] {
  if (!isLowStockCrossing(before, after, tenantThreshold)) return [];
  const threshold = after.lowStockThreshold ?? tenantThreshold;
  return [
    {
      topic: "product.lowstock",
      subjectId: after.id,
      sellerId: after.sellerId,
      // What another seller had is not this one's to see.
      payload: { before: before.sellerId === after.sellerId ? before : null, after, threshold },
    },
  ];
}
