import type { Sql } from "../../db/client.ts";
import type { Measures } from "./schema.ts";

/** The counts that rollup rows add up to; `conversionRate` follows from them. */
export type Counts = Omit<Measures, "conversionRate">;

export const NO_COUNTS: Counts = {
  views: 0,
  clicks: 0,
  addToCarts: 0,
  removeFromCarts: 0,
  checkoutStarts: 0,
  purchases: 0,
  units: 0,
  revenue: 0,
};

/** Counts with their rate. */
export function toMeasures(counts: Counts): Measures {
  const { views, clicks, addToCarts, removeFromCarts, checkoutStarts, purchases, units, revenue } = counts;
  const conversionRate = views === 0 ? 0 : purchases / views;
  return {
    views,
    clicks,
    addToCarts,
    removeFromCarts,
    checkoutStarts,
    purchases,
    units,
    revenue,
    conversionRate,
  };
}

/** Sums of the measure columns of a daily rollup. Decimals are added by Postgres; the sum is what a double can show. */
export function sumMeasures(sql: Sql) {
  return sql`sum(events)::float8 as events, sum(views)::float8 as views, sum(clicks)::float8 as clicks,
    sum(add_to_carts)::float8 as "addToCarts", sum(remove_from_carts)::float8 as "removeFromCarts",
    sum(checkout_starts)::float8 as "checkoutStarts", sum(purchases)::float8 as purchases,
    sum(units)::float8 as units, sum(revenue)::float8 as revenue`;
}

/** The count that each standard event type adds to. */
const COUNT_OF_TYPE: Record<string, keyof Counts> = {
  view: "views",
  click: "clicks",
  add_to_cart: "addToCarts",
  remove_from_cart: "removeFromCarts",
  checkout_start: "checkoutStarts",
  purchase: "purchases",
};

/** One cell of the hourly rollup: what a type contributes to a bucket. Revenue is exact decimal text. */
export interface TypeCell {
  type: string;
  events: number;
  units: number;
  revenue: string;
}

/** Adds cells up. Money is added in ten-thousandths, which is exact: a float sum would drift by cents. */
export function addCells(cells: readonly TypeCell[]): { events: number; counts: Counts } {
  const counts = { ...NO_COUNTS };
  let events = 0;
  let revenue = 0n;
  for (const cell of cells) {
    events += cell.events;
    counts.units += cell.units;
    revenue += tenThousandths(cell.revenue);
    const name = COUNT_OF_TYPE[cell.type];
    if (name) counts[name] += cell.events;
  }
  // Read as a decimal: dividing would round twice, and differ from Postgres beyond 2^53 ten-thousandths.
  counts.revenue = Number(`${revenue}e-4`);
  return { events, counts };
}

function tenThousandths(decimal: string): bigint {
  const [whole = "0", fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.padEnd(4, "0").slice(0, 4));
}
