import type { Day } from "./days.ts";

/**
 * What one unit of `currency` is worth in the tenant's currency, from a day of the tenant's clock
 * until the next rate.
 */
export interface ExchangeRate {
  currency: string;
  from: Day;
  /** Decimal text, at most RATE_DECIMALS decimals. */
  rate: string;
}

export const RATE_DECIMALS = 10;
export const AMOUNT_DECIMALS = 4;

/** Rates by currency, the latest first. */
export type RateTable = ReadonlyMap<string, readonly ExchangeRate[]>;

export function createRateTable(rates: readonly ExchangeRate[]): RateTable {
  const latestFirst = rates.toSorted((a, b) => (a.from < b.from ? 1 : -1));
  return Map.groupBy(latestFirst, ({ currency }) => currency);
}

export function rateOn(table: RateTable, currency: string, day: Day): ExchangeRate | undefined {
  return table.get(currency)?.find(({ from }) => from <= day);
}

/**
 * `quantity` times `amount` times `rate`, rounded once to four decimals, half away from zero.
 * `amount` is decimal text of at most four decimals. It computes with integers, so nothing is lost
 * before the rounding.
 */
export function convertAmount(quantity: number, amount: string, rate: string): string {
  const product = BigInt(quantity) * toInteger(amount, AMOUNT_DECIMALS) * toInteger(rate, RATE_DECIMALS);
  const unit = 10n ** BigInt(RATE_DECIMALS);
  const half = product < 0n ? -unit / 2n : unit / 2n;
  // Division cuts off towards zero.
  return toDecimal((product + half) / unit, AMOUNT_DECIMALS);
}

function toInteger(decimal: string, decimals: number): bigint {
  const [whole = "0", fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.padEnd(decimals, "0"));
}

function toDecimal(integer: bigint, decimals: number): string {
  const digits = String(integer < 0n ? -integer : integer).padStart(decimals + 1, "0");
  return `${integer < 0n ? "-" : ""}${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`;
}
