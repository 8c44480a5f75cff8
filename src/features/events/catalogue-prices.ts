import type { FieldError } from "../../core/errors.ts";
import type { Accepted, ParseResult } from "./parse-event.ts";

/**
 * The catalogue's present prices as exact decimal text. Products that it does not know are absent.
 */
export type FindPrices = (
  tenantId: string,
  productIds: ReadonlySet<string>,
) => Promise<ReadonlyMap<string, string>>;

/** Accepted, but its amount is not known yet: a sale of a product, without a price. */
export type Unpriced = Accepted & { unpriced: Record<string, unknown> };

export function isUnpriced(result: ParseResult): result is Unpriced {
  return "unpriced" in result && result.unpriced !== undefined;
}

/**
 * Gives sales without a price that of the catalogue when they arrive; it keeps no earlier prices.
 * One query serves all of them. The price is written into the properties, so the stored event says
 * what it counts, and an export of it counts the same elsewhere.
 */
export async function priceSales(
  findPrices: FindPrices,
  tenantId: string,
  results: readonly ParseResult[],
): Promise<readonly ParseResult[]> {
  const wanted = new Set<string>();
  for (const result of results) if (isUnpriced(result)) wanted.add(result.event.productId ?? "");
  if (wanted.size === 0) return results;
  const prices = await findPrices(tenantId, wanted);
  return results.map((result) =>
    isUnpriced(result) ? priced(result, prices.get(result.event.productId ?? "")) : result,
  );
}

const PRICE_REQUIRED: FieldError = {
  path: "properties.price",
  code: "price_required",
  message: "is required, or else revenue: the catalogue has no such product",
};

function priced({ event, warnings, unpriced }: Unpriced, price: string | undefined): ParseResult {
  if (price !== undefined) {
    const properties = { ...unpriced, price: Number(price), priceSource: "catalogue" };
    return { event: { ...event, unitPrice: price, properties: JSON.stringify(properties) }, warnings };
  }
  if (event.type === "purchase") return { errors: [PRICE_REQUIRED] };
  const warning = { path: PRICE_REQUIRED.path, code: "price_unknown" as const };
  return { event: { ...event, unitPrice: "0" }, warnings: [...warnings, warning] };
}
