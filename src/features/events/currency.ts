import { dayInZone } from "../../core/days.ts";
import { convertAmount, type ExchangeRate, type RateTable, rateOn } from "../../core/exchange-rates.ts";

/** What a tenant's settings say of money. */
export interface MoneyRules {
  currency: string;
  /** IANA name: rates are dated by the tenant's days. */
  timeZone: string;
  exchangeRates: RateTable;
}

/**
 * How a sale's currency is read: null for the tenant's own, else the rate of its day; or the
 * problem with it.
 */
export function readCurrency(
  given: unknown,
  tsMs: number,
  rules: MoneyRules,
): { rate: ExchangeRate | null } | { code: string; message: string } {
  if (given === undefined) return { rate: null };
  if (typeof given !== "string" || !/^[A-Za-z]{3}$/.test(given))
    return { code: "invalid_currency", message: "must be an ISO 4217 code of three letters, such as EUR" };
  const currency = given.toUpperCase();
  if (currency === rules.currency) return { rate: null };
  const day = rules.exchangeRates.has(currency) ? dayInZone(tsMs, rules.timeZone) : "";
  const rate = rateOn(rules.exchangeRates, currency, day);
  if (rate) return { rate };
  const missing = day === "" ? `for ${currency}` : `for ${currency} on ${day}`;
  return {
    code: "currency_mismatch",
    message: `is not ${rules.currency}, this shop's currency, and exchangeRates has no rate ${missing}; PATCH /tenants/current sets both`,
  };
}

export interface Conversion {
  amount: string;
  /** For the stored event, beside what was sent. */
  converted: { currency: string; amount: number; rate: string; from: string };
}

/**
 * A line in the tenant's currency. The highest quantity, price and rate make an amount of 10^23.
 */
export function convertLine(
  quantity: number,
  amount: string,
  { rate, from }: ExchangeRate,
  { currency }: MoneyRules,
): Conversion {
  const result = convertAmount(quantity, amount, rate);
  return { amount: result, converted: { currency, amount: Number(result), rate, from } };
}
