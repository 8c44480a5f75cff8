/** Event types that count in money. Only the shop itself may send them, unless its tenant trusts others with it. */
export const SALE_TYPES: ReadonlySet<string> = new Set(["purchase", "refund", "adjustment"]);

/**
 * Bounds of one event. No shop meets them by accident, and a mistake stays a mistake of that size: `units` are added up in
 * a bigint, which takes 9 * 10^12 events of the highest quantity to leave, and `revenue` in a numeric without bound. A
 * price in a JSON number is exact up to 15 digits, four of which are decimals; the catalogue's prices are below it.
 */
const MAX_UNITS = 1_000_000;
const MAX_UNIT_PRICE = 10_000_000_000;
const PRICE_DECIMALS = 4;

/** What an event means in units and money: null where it is no sale. */
export interface SaleAmount {
  quantity: number | null;
  /** Exact decimal text. */
  unitPrice: string | null;
}

export type Reject = (path: string, code: string, message: string) => void;

export const NO_SALE: SaleAmount = { quantity: null, unitPrice: null };

/** What the properties of a sale of this type say. */
export function parseSale(
  type: string,
  properties: Record<string, unknown> | undefined,
  reject: Reject,
): SaleAmount {
  const { quantity = 1, price = 0 } = properties ?? {};
  if (typeof quantity !== "number" || !Number.isInteger(quantity) || quantity < 1 || quantity > MAX_UNITS) {
    reject("properties.quantity", "invalid_quantity", `must be a whole number from 1 to ${MAX_UNITS}`);
    return NO_SALE;
  }
  const lowest = type === "adjustment" ? -MAX_UNIT_PRICE : 0;
  if (typeof price !== "number" || !(price >= lowest && price <= MAX_UNIT_PRICE)) {
    const exception = lowest === 0 ? "; only an adjustment may have a negative one" : "";
    reject(
      "properties.price",
      "invalid_price",
      `must be a number from ${lowest} to ${MAX_UNIT_PRICE}${exception}`,
    );
    return NO_SALE;
  }
  return { quantity, unitPrice: decimalText(price) };
}

/** The decimal that a client wrote, to four places: the shortest text of a double is what JSON carried. */
function decimalText(price: number): string {
  const text = String(price);
  return /^-?\d+(\.\d{1,4})?$/.test(text) ? text : price.toFixed(PRICE_DECIMALS);
}
