import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { isDay } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { isStorable } from "../../core/validation.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import type { MetricsQuestion } from "./planner.ts";
import type { Range } from "./range.ts";
import { type Dimension, METRICS, type Metric, RATES } from "./schema.ts";

/**
 * Pages of a question's rows. Their order is total: the sort, then the dimensions, which tell all
 * rows apart. A cursor holds the days of the first page, so midnight changes nothing, and the last
 * row's values of that order.
 */
export interface OrderTerm {
  name: Metric | Dimension;
  direction: "asc" | "desc";
}

type Ordered = Pick<MetricsQuestion, "dimensions" | "sort">;

export function orderTerms({ dimensions, sort }: Ordered): OrderTerm[] {
  const rest = dimensions.filter((name) => name !== sort?.by);
  const first = sort ? [{ name: sort.by, direction: sort.direction }] : [];
  return [...first, ...rest.map((name) => ({ name, direction: "asc" as const }))];
}

/** How the texts of a term's values are compared, and which of them can come from a row. */
interface Comparison {
  type: string;
  isValue(text: string): boolean;
}

export const isNumberText = (text: string) => /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text);
const isInstantText = (text: string) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text);

function comparisonOf(name: Metric | Dimension): Comparison {
  if (METRICS.includes(name as Metric))
    return {
      type: RATES.includes(name as (typeof RATES)[number]) ? "float8" : "numeric",
      isValue: isNumberText,
    };
  if (name === "hour")
    return { type: "timestamptz", isValue: (text) => isInstantText(text) && !Number.isNaN(Date.parse(text)) };
  if (name === "day" || name === "week" || name === "month") return { type: "date", isValue: isDay };
  return { type: `text collate "C"`, isValue: isStorable };
}

/**
 * A condition for the rows that come after one with these values. `columnOf` names the column of
 * each term.
 */
export function beyond(
  sql: Sql,
  terms: readonly OrderTerm[],
  values: readonly string[],
  columnOf: (name: OrderTerm["name"]) => Fragment,
): Fragment {
  const textAt = (index: number) =>
    sql`${values[index] ?? ""}::text::${sql.unsafe(comparisonOf(terms[index]?.name ?? "type").type)}`;
  const cases = terms.map(({ name, direction }, index) => {
    const further = direction === "desc" ? sql`<` : sql`>`;
    const equal = terms
      .slice(0, index)
      .map((term, before) => sql`${columnOf(term.name)} = ${textAt(before)} and `);
    return sql`${index === 0 ? sql`` : sql` or `}(${equal.length === 0 ? sql`` : equal}${columnOf(name)} ${further} ${textAt(index)})`;
  });
  return sql`(${cases})`;
}

/** Where a page begins: the days of the first one, and the values of the last row before it. */
export interface Start {
  from: string;
  to: string;
  after: string[];
}

/**
 * Throws `invalid_input` for a cursor of another question (`bound` identifies it), and for a forged
 * one.
 */
export function readStart(bound: unknown, cursor: string | undefined, asked: Ordered): Start | null {
  if (cursor === undefined) return null;
  const terms = orderTerms(asked);
  const [from = "", to = "", ...after] = decodeCursor(bound, cursor, 2 + terms.length);
  const fits = terms.every(({ name }, index) => comparisonOf(name).isValue(after[index] ?? ""));
  if (!isDay(from) || !isDay(to) || !fits)
    throw new AppError("invalid_input", "The cursor is not valid.", {
      errors: [{ path: "cursor", code: "invalid_cursor", message: "start again without a cursor" }],
    });
  return { from, to, after };
}

/**
 * The rows of a page of at most `limit`, of which one more was asked for, and the cursor of the
 * next.
 */
export function cutPage(
  rows: readonly Record<string, string>[],
  limit: number,
  { bound, range, asked }: { bound: unknown; range: Range; asked: Ordered },
) {
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  const key = last && [range.from, range.to, ...orderTerms(asked).map(({ name }) => last[name] ?? "")];
  return {
    shown,
    truncated: key !== undefined,
    nextCursor: key ? encodeCursor(bound, key) : null,
  };
}
