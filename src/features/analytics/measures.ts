import type { Measures } from "./answer-schema.ts";
import { MEASURE_NAMES, type Metric } from "./schema.ts";

/** Metrics as exact decimal text, as the repository gives them. */
export type MetricTexts = Partial<Record<string, string | null>>;

/**
 * The measures of a row; zeros where there is none. Number() gives the double nearest to a decimal
 * text.
 */
export function measuresOf(row: MetricTexts | undefined): Measures {
  const entries = MEASURE_NAMES.map((name) => [name, Number(row?.[name] ?? 0)]);
  return Object.fromEntries(entries) as Measures;
}

/** What every row of measures is asked for. */
export const ROW_METRICS: readonly Metric[] = ["events", ...MEASURE_NAMES];

/** The count that each standard event type adds to. */
const COUNT_OF_TYPE: Record<string, keyof Measures> = {
  view: "views",
  click: "clicks",
  add_to_cart: "addToCarts",
  remove_from_cart: "removeFromCarts",
  checkout_start: "checkoutStarts",
  purchase: "purchases",
};

/** What a type contributes to a bucket, as exact text. */
export interface TypeCell {
  type: string;
  events: string;
  units: string;
  revenue: string;
}

/** Metrics that make a TypeCell of a group by type. */
export const CELL_METRICS = ["events", "units", "revenue"] as const;

/**
 * Adds cells up. Money is added in ten-thousandths, which is exact: a float sum would drift by
 * cents.
 */
export function addCells(cells: readonly TypeCell[]): { events: number; measures: Measures } {
  const measures = measuresOf(undefined);
  let events = 0;
  let revenue = 0n;
  for (const cell of cells) {
    const count = Number(cell.events);
    events += count;
    measures.units += Number(cell.units);
    revenue += tenThousandths(cell.revenue);
    const name = COUNT_OF_TYPE[cell.type];
    if (name) measures[name] += count;
  }
  // Read as a decimal: dividing would round twice, and differ from Postgres beyond 2^53
  // ten-thousandths.
  measures.revenue = Number(`${revenue}e-4`);
  measures.conversionRate = measures.views === 0 ? 0 : measures.purchases / measures.views;
  return { events, measures };
}

function tenThousandths(decimal: string): bigint {
  const [whole = "0", fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.padEnd(4, "0").slice(0, 4));
}
