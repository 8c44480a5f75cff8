import type { Day } from "../../core/days.ts";
import type { Sql } from "../../db/client.ts";
import { type Counts, sumMeasures, type TypeCell } from "./measures.ts";
import type { Range } from "./range.ts";
import type { Granularity } from "./schema.ts";

/** What each sort name means in SQL, over the sums of a group. */
const SORT_EXPRESSION = {
  events: "sum(events)",
  views: "sum(views)",
  clicks: "sum(clicks)",
  addToCarts: "sum(add_to_carts)",
  checkoutStarts: "sum(checkout_starts)",
  purchases: "sum(purchases)",
  units: "sum(units)",
  revenue: "sum(revenue)",
  conversionRate: "case when sum(views) = 0 then 0 else sum(purchases) / sum(views) end",
} as const;
export type SortBy = keyof typeof SORT_EXPRESSION;

export async function selectTopProducts(
  sql: Sql,
  tenantId: string,
  { from, to }: Range,
  sortBy: SortBy,
  limit: number,
) {
  return sql<(Counts & { productId: string })[]>`
    select product_id as "productId", ${sumMeasures(sql)} from product_daily_stats
    where tenant_id = ${tenantId} and day between ${from} and ${to}
    group by product_id
    order by ${sql.unsafe(SORT_EXPRESSION[sortBy])} desc, product_id collate "C" limit ${limit}`;
}

/** Only the days on which something happened. */
export async function selectProductDays(sql: Sql, tenantId: string, { from, to }: Range, productId: string) {
  return sql<(Counts & { day: Day })[]>`
    select day::text as day, ${sumMeasures(sql)} from product_daily_stats
    where tenant_id = ${tenantId} and product_id = ${productId} and day between ${from} and ${to}
    group by day order by day`;
}

export async function selectUserTotals(sql: Sql, tenantId: string, { from, to }: Range, userKey: string) {
  const [row] = await sql<(Counts & { events: number; activeDays: number })[]>`
    select count(distinct day)::int as "activeDays", ${sumMeasures(sql)} from user_daily_stats
    where tenant_id = ${tenantId} and user_key = ${userKey} and day between ${from} and ${to}
    having count(*) > 0`;
  return row ?? null;
}

export async function selectBreakdown(
  sql: Sql,
  tenantId: string,
  { from, to }: Range,
  property: string,
  sortBy: SortBy,
  limit: number,
) {
  return sql<(Counts & { value: string; events: number })[]>`
    select value, ${sumMeasures(sql)} from property_daily_stats
    where tenant_id = ${tenantId} and property = ${property} and day between ${from} and ${to}
    group by value
    order by ${sql.unsafe(SORT_EXPRESSION[sortBy])} desc, value collate "C" limit ${limit}`;
}

export type BucketCell = TypeCell & { bucket: string };

/** Bucket and type sums from the hourly rollup. The bucket's text is what the client sees. */
export async function selectBucketsFromRollup(
  sql: Sql,
  tenantId: string,
  range: Range,
  groupBy: Granularity,
) {
  return sql<BucketCell[]>`
    select ${bucketText(sql, groupBy, "hour", range.timeZone)} as bucket, type, sum(events)::float8 as events,
      sum(units)::float8 as units, sum(revenue)::text as revenue
    from event_hourly_stats
    where tenant_id = ${tenantId} and ${onDays(sql, "hour", range)}
    group by 1, type`;
}

/** The same from raw events: for a time zone whose hours are not those that the rollup was kept by. */
export async function selectBucketsFromEvents(
  sql: Sql,
  tenantId: string,
  range: Range,
  groupBy: Granularity,
) {
  return sql<BucketCell[]>`
    select bucket, type, count(*)::float8 as events, sum(units)::float8 as units,
      sum(units * coalesce(unit_price, 0))::text as revenue
    from (
      select ${bucketText(sql, groupBy, "ts", range.timeZone)} as bucket, type, unit_price,
        case type when 'purchase' then quantity when 'refund' then -quantity else 0 end as units
      from events
      where tenant_id = ${tenantId} and ${onDays(sql, "ts", range)}
    ) sale
    group by bucket, type`;
}

export interface Audience {
  uniqueUsers: number;
  sessions: number;
}

/** Exact, over the tenant's own days. */
export async function selectAudienceFromRollup(
  sql: Sql,
  tenantId: string,
  { from, to }: Range,
): Promise<Audience> {
  const [row] = await sql<Audience[]>`
    select
      (select count(distinct user_key)::float8 from user_daily_stats
        where tenant_id = ${tenantId} and day between ${from} and ${to}) as "uniqueUsers",
      (select count(distinct session_id)::float8 from session_daily_stats
        where tenant_id = ${tenantId} and day between ${from} and ${to}) as sessions`;
  return row ?? { uniqueUsers: 0, sessions: 0 };
}

/** Exact, over the days of any time zone. */
export async function selectAudienceFromEvents(sql: Sql, tenantId: string, range: Range): Promise<Audience> {
  const [row] = await sql<Audience[]>`
    select count(distinct coalesce(user_id, anonymous_id, session_id))::float8 as "uniqueUsers",
      count(distinct session_id)::float8 as sessions
    from events
    where tenant_id = ${tenantId} and ${onDays(sql, "ts", range)}`;
  return row ?? { uniqueUsers: 0, sessions: 0 };
}

/** Starts of all buckets that touch the range, so that gaps can be filled; Postgres knows which days have 23 hours. */
export async function selectBucketStarts(sql: Sql, range: Range, groupBy: Granularity): Promise<string[]> {
  const { from, to, timeZone } = range;
  if (groupBy === "hour") {
    // By half hours: where the clock moves by thirty minutes, hours begin at half past from then on.
    const rows = await sql<{ bucket: string }[]>`
      select distinct ${bucketText(sql, "hour", "instant", timeZone)} as bucket
      from generate_series(${from}::date::timestamp at time zone ${timeZone} - interval '1 day',
        ${to}::date::timestamp at time zone ${timeZone} + interval '2 days', interval '30 minutes') as instant
      where ${onDays(sql, "instant", range)} order by bucket`;
    return rows.map((row) => row.bucket);
  }
  const rows = await sql<{ bucket: string }[]>`
    select start::date::text as bucket
    from generate_series(date_trunc(${groupBy}, ${from}::date::timestamp), ${to}::date::timestamp, ${`1 ${groupBy}`}::interval) as start`;
  return rows.map((row) => row.bucket);
}

/**
 * An instant belongs to the day that the local clock shows; the range of instants around it is only for the index, and
 * wide enough for a midnight that happens twice.
 */
function onDays(sql: Sql, column: "hour" | "ts" | "instant", { from, to, timeZone }: Range) {
  const instant = sql(column);
  return sql`${instant} >= ${from}::date::timestamp at time zone ${timeZone} - interval '1 day'
    and ${instant} < ${to}::date::timestamp at time zone ${timeZone} + interval '2 days'
    and (${instant} at time zone ${timeZone})::date between ${from}::date and ${to}::date`;
}

function bucketText(sql: Sql, groupBy: Granularity, column: "hour" | "ts" | "instant", timeZone: string) {
  if (groupBy === "hour") {
    return sql`to_char(date_trunc('hour', ${sql(column)}, ${timeZone}) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
  }
  return sql`date_trunc(${groupBy}, ${sql(column)} at time zone ${timeZone})::date::text`;
}
