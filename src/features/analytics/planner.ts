import { countDays } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { hoursAlign, type Range } from "./range.ts";
import { type Dimension, type FilterName, GRANULARITIES, type Granularity, type Metric } from "./schema.ts";

/**
 * One shape of question behind every analytics answer: metrics, by dimensions, under filters. The
 * planner finds the smallest table that holds what is asked. What none holds is refused, so no
 * question becomes a scan by accident.
 */
export interface MetricsQuestion {
  range: Range;
  metrics: readonly Metric[];
  dimensions: readonly Dimension[];
  filters?: Partial<Record<FilterName, readonly string[]>>;
  /** Whose values the dimension `property` and the filter `value` mean. */
  property?: string;
  /** Ties are broken by the dimensions in their order. */
  sort?: { by: Metric | Dimension; direction: "asc" | "desc" };
  limit?: number;
  /** Only what comes after a row with these values of the order, see keyset.ts. */
  after?: readonly string[];
}

export interface Source {
  table: string;
  /**
   * The column of time: a local day, an hour of the tenant's clock, or the instant of a raw event.
   */
  time: "day" | "hour" | "ts";
  dimensions: readonly Dimension[];
  filters: readonly FilterName[];
  /** SQL of each metric that it holds, over the rows of a group. */
  metrics: Partial<Record<Metric, string>>;
  /**
   * Its rows are also kept summed by longer periods, which answer questions that need nothing finer
   * than months.
   */
  hasPeriods?: true;
  /** Where distinct members are sums over pairs of days: of whom, by metric. */
  distinct?: Partial<Record<Metric, readonly Subject[]>>;
}

export type Subject = "user" | "buyer" | "session";

export interface Plan extends MetricsQuestion {
  source: Source;
}

/** An hourly series longer than this is asked for in parts. */
export const MAX_HOURLY_DAYS = 93;
/** How far a question may go that only raw events can answer. */
export const MAX_RAW_DAYS = 93;

const DAYS: readonly Dimension[] = ["day", "week", "month"];

/** An empty group has sums of 0. Text, so that decimals and counts alike come out exactly. */
const sum = (column: string) => `coalesce(sum(${column}), 0)`;
const ofType = (type: string) => `coalesce(sum(events) filter (where type = '${type}'), 0)`;

/**
 * Compared as bytes, whatever the database's language: counting distinct values needs no sorting by
 * language.
 */
const distinct = (column: string) => `count(distinct ${column} collate "C")`;

/** No metric of its own: the quotient of two others, as doubles. */
const rate = (part: string, whole: string) =>
  `case when ${whole} = 0 then 0 else ${part}::float8 / ${whole}::float8 end`;

const BY_COLUMN: Partial<Record<Metric, string>> = {
  events: sum("events"),
  views: sum("views"),
  clicks: sum("clicks"),
  addToCarts: sum("add_to_carts"),
  removeFromCarts: sum("remove_from_carts"),
  checkoutStarts: sum("checkout_starts"),
  purchases: sum("purchases"),
  units: sum("units"),
  revenue: sum("revenue"),
  conversionRate: rate(sum("purchases"), sum("views")),
};

const BY_TYPE: Partial<Record<Metric, string>> = {
  events: sum("events"),
  views: ofType("view"),
  clicks: ofType("click"),
  addToCarts: ofType("add_to_cart"),
  removeFromCarts: ofType("remove_from_cart"),
  checkoutStarts: ofType("checkout_start"),
  purchases: ofType("purchase"),
  units: sum("units"),
  revenue: sum("revenue"),
  conversionRate: rate(ofType("purchase"), ofType("view")),
};

const members = (subject: Subject) => `coalesce(sum(members) filter (where subject = '${subject}'), 0)`;

/** Distinct members of days as a sum, without reading each member: docs/unique-visitors.md. */
const RETURNS: Source = {
  table: "daily_return_stats",
  time: "day",
  dimensions: DAYS,
  filters: [],
  metrics: {
    uniqueUsers: members("user"),
    buyers: members("buyer"),
    sessions: members("session"),
    purchaseRate: rate(members("buyer"), members("user")),
  },
  distinct: {
    uniqueUsers: ["user"],
    buyers: ["buyer"],
    sessions: ["session"],
    purchaseRate: ["buyer", "user"],
  },
};

/** Users, those of them who `bought`, and their share, over rows that name them. */
function usersOf(bought: string): Partial<Record<Metric, string>> {
  const uniqueUsers = distinct("user_key");
  const buyers = `${uniqueUsers} filter (where ${bought})`;
  return { uniqueUsers, buyers, purchaseRate: rate(`(${buyers})`, `(${uniqueUsers})`) };
}

/** The smallest table first. */
const SOURCES: readonly Source[] = [
  RETURNS,
  {
    table: "event_daily_stats",
    time: "day",
    dimensions: [...DAYS, "type"],
    filters: ["type"],
    metrics: BY_TYPE,
  },
  {
    table: "event_hourly_stats",
    time: "hour",
    dimensions: [...GRANULARITIES, "type"],
    filters: ["type"],
    metrics: BY_TYPE,
  },
  {
    table: "property_daily_stats",
    time: "day",
    dimensions: [...DAYS, "property"],
    filters: ["value"],
    metrics: BY_COLUMN,
  },
  {
    table: "product_daily_stats",
    hasPeriods: true,
    time: "day",
    dimensions: [...DAYS, "product"],
    filters: ["productId"],
    metrics: BY_COLUMN,
  },
  {
    table: "user_daily_stats",
    time: "day",
    dimensions: [...DAYS, "user"],
    filters: ["userId"],
    metrics: {
      ...BY_COLUMN,
      ...usersOf("purchases > 0"),
      activeDays: "count(distinct day)",
    },
  },
];

/**
 * For clocks whose hours or days no rollup is kept by. Its rows are made to look like those of the
 * hourly rollup.
 */
const RAW: Source = {
  table: "events",
  time: "ts",
  dimensions: [...GRANULARITIES, "type"],
  filters: ["type"],
  metrics: {
    ...BY_TYPE,
    ...usersOf("type = 'purchase'"),
    sessions: distinct("session_id"),
  },
};

/**
 * Throws `invalid_input` for a question that no source answers, and for one with too long a range.
 */
export function planMetrics(question: MetricsQuestion): Plan {
  const { range, dimensions } = question;
  const days = countDays(range.from, range.to);
  if (dimensions.includes("hour") && days > MAX_HOURLY_DAYS)
    throw refusal("dimensions", `may have hours for at most ${MAX_HOURLY_DAYS} days`);
  const holding = SOURCES.filter((source) => holds(source, question));
  const onOwnClock = range.timeZone === range.ownZone;
  const source = holding.find(
    ({ time }) => onOwnClock || (time === "hour" && hoursAlign(range, range.ownZone)),
  );
  if (source) return { ...question, source };
  if (!onOwnClock && holds(RAW, question)) {
    if (days > MAX_RAW_DAYS)
      throw refusal("timeZone", `may be another one than the tenant's for at most ${MAX_RAW_DAYS} days`);
    return { ...question, source: RAW };
  }
  if (holding.length > 0)
    throw refusal("timeZone", "must be the tenant's: this is kept by its own days only");
  throw refusal("metrics", "can't be had with these dimensions and filters: no rollup holds them together");
}

function holds(
  { dimensions, filters, metrics }: Source,
  { metrics: asked, dimensions: by, filters: under = {}, property }: MetricsQuestion,
): boolean {
  // A question of this rollup always chooses one property: over all properties, an event would
  // count once for each.
  if (dimensions.includes("property") !== (property !== undefined)) return false;
  return (
    asked.every((metric) => metric in metrics) &&
    by.every((dimension) => dimensions.includes(dimension)) &&
    Object.entries(under).every(([name, values]) => !values || filters.includes(name as FilterName))
  );
}

/** What a rollup is grouped by in time; a day where a question has no time. */
export function granularityOf(dimensions: readonly Dimension[]): Granularity {
  return (dimensions.find((one) => GRANULARITIES.includes(one as Granularity)) as Granularity) ?? "day";
}

/** Dimensions that exclude each other, or miss their property. Throws `invalid_input`. */
export function checkDimensions({
  dimensions,
  property,
  filters = {},
  sort,
  metrics,
}: MetricsQuestion): void {
  if (dimensions.filter((one) => GRANULARITIES.includes(one as Granularity)).length > 1)
    throw refusal("dimensions", "may have one of hour, day, week and month, not several");
  if (new Set(dimensions).size < dimensions.length) throw refusal("dimensions", "may have each name once");
  if (new Set(metrics).size < metrics.length) throw refusal("metrics", "may have each name once");
  const needsProperty = dimensions.includes("property") || filters.value !== undefined;
  if (needsProperty !== (property !== undefined))
    throw refusal("property", "is needed with the dimension `property` or the filter `value`, and only then");
  if (sort && ![...metrics, ...dimensions].includes(sort.by))
    throw refusal("sort.by", "must be one of the metrics and dimensions asked for");
}

function refusal(path: string, message: string): AppError {
  return new AppError("invalid_input", `This question has no answer here: ${path} ${message}.`, {
    errors: [{ path, code: "unanswerable", message }],
  });
}
