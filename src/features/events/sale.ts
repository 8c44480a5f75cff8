import { AMOUNT_DECIMALS, type ExchangeRate } from "../../core/exchange-rates.ts";
import { convertLine, type MoneyRules, readCurrency } from "./currency.ts";
import type { Warn } from "./warnings.ts";

/**
 * Event types that count in money. Only the shop itself may send them, unless its tenant trusts
 * others with it.
 */
export const SALE_TYPES: ReadonlySet<string> = new Set(["purchase", "refund", "adjustment"]);

/**
 * Bounds of one event: no shop meets them by accident, and a mistake stays small. `units` are added
 * up in a bigint, which holds 9 * 10^12 events of the highest quantity; `revenue` is a numeric
 * without bound. A JSON number is exact up to 15 digits, four of them decimals; the catalogue's
 * prices stay below that.
 */
const MAX_UNITS = 1_000_000;
const MAX_UNIT_PRICE = 10_000_000_000;
const MAX_LINE_TOTAL = 100_000_000_000;

/**
 * What an event counts in units and money: null where it is no sale. Amounts are exact decimal
 * text.
 */
export interface SaleAmount {
  quantity: number | null;
  unitPrice: string | null;
  /** Of the whole line, where it is not quantity times unitPrice. */
  amount: string | null;
}

export interface Sale {
  counts: SaleAmount;
  /** Properties that are added to the stored event, which say how its amount was found. */
  added?: Record<string, unknown>;
}

export type Reject = (path: string, code: string, message: string) => void;

export const NO_SALE: Sale = { counts: { quantity: null, unitPrice: null, amount: null } };

export interface SaleInput {
  type: string;
  productId?: string;
  properties?: Record<string, unknown>;
}

/** What a sale says of its money. Neither unitPrice nor amount: the catalogue has to be asked. */
export function parseSale(
  input: SaleInput,
  tsMs: number,
  rules: MoneyRules | null,
  { reject, warn }: { reject: Reject; warn: Warn },
): Sale {
  const { type } = input;
  const { quantity = 1, price, revenue, currency } = input.properties ?? {};
  if (typeof quantity !== "number" || !Number.isInteger(quantity) || quantity < 1 || quantity > MAX_UNITS) {
    reject(
      "properties.quantity",
      "invalid_quantity",
      `must be a whole number from 1 to ${MAX_UNITS}${butIs(quantity)}`,
    );
    return NO_SALE;
  }
  const read = rules ? readCurrency(currency, tsMs, rules) : { rate: null };
  if ("code" in read) reject("properties.currency", read.code, read.message);
  const rate = "rate" in read ? read.rate : null;
  if (price === undefined && revenue === undefined)
    return parseUnpriced(quantity, input, rate, { reject, warn });
  if (price !== undefined && revenue !== undefined) warn("properties.revenue", "ignored");
  const [name, value, max] =
    price === undefined
      ? (["revenue", revenue, MAX_LINE_TOTAL] as const)
      : (["price", price, MAX_UNIT_PRICE] as const);
  const amount = checkAmount(type, name, value, max, reject);
  if (amount === null) return NO_SALE;
  if (rules && rate) {
    const { amount: line, converted } = convertLine(name === "price" ? quantity : 1, amount, rate, rules);
    return { counts: { quantity, unitPrice: null, amount: line }, added: { converted } };
  }
  return {
    counts: { quantity, unitPrice: null, amount: null, [name === "price" ? "unitPrice" : "amount"]: amount },
  };
}

/**
 * Without a price: the catalogue may know one, and a refund needs none. Anything else would count
 * nothing.
 */
function parseUnpriced(
  quantity: number,
  { type, productId }: SaleInput,
  rate: ExchangeRate | null,
  { reject, warn }: { reject: Reject; warn: Warn },
): Sale {
  const unpriced = { quantity, unitPrice: null, amount: null };
  if (type === "adjustment")
    reject("properties.price", "price_required", "is required, or else revenue: an adjustment is an amount");
  else if (rate)
    reject("properties.price", "price_required", "is required in another currency, or else revenue");
  else if (productId !== undefined) return { counts: unpriced };
  else if (type === "purchase")
    reject("properties.price", "price_required", "is required of a sale without productId, or else revenue");
  else {
    warn("properties.price", "price_unknown");
    return { counts: { ...unpriced, unitPrice: "0" } };
  }
  return NO_SALE;
}

function checkAmount(type: string, name: string, value: unknown, max: number, reject: Reject): string | null {
  const min = type === "adjustment" ? -max : 0;
  if (typeof value === "number" && value >= min && value <= max) return decimalText(value);
  const exception = Number(value) < min && min === 0 ? "; only an adjustment may have a negative one" : "";
  const bounds = `must be a number from ${min} to ${max}`;
  reject(`properties.${name}`, `invalid_${name}`, `${bounds}${butIs(value)}${exception}`);
  return null;
}

function butIs(value: unknown): string {
  if (typeof value === "number") return `, but is ${value}`;
  return typeof value === "string" ? ", but is a string" : "";
}

/**
 * The decimal that a client wrote, to four places: the shortest text of a double is what the JSON
 * held.
 */
function decimalText(amount: number): string {
  const text = String(amount);
  return /^-?\d+(\.\d{1,4})?$/.test(text) ? text : amount.toFixed(AMOUNT_DECIMALS);
}
