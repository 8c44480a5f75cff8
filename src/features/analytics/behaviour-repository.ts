import type { Day } from "../../core/days.ts";
import type { Sql } from "../../db/client.ts";
import type { Range } from "./range.ts";
import type { Period } from "./schema.ts";

export interface RetentionCell {
  cohort: Day;
  seen: Day;
  users: number;
}

/**
 * Users by the period of their first day ever, and the periods in which they were seen since, up to
 * the range's end. The index on users tells who was first seen before the range; earlier days are
 * not read.
 */
export async function selectRetention(
  sql: Sql,
  tenantId: string,
  { from, to }: Range,
  period: Period,
): Promise<RetentionCell[]> {
  const start = (day: string) => sql`date_trunc(${period}, ${sql(day)}::timestamp)::date`;
  return sql<RetentionCell[]>`
    with seen as materialized (
      select tenant_id, user_key, min(day) as first_day, array_agg(distinct ${start("day")}) as periods
      from user_daily_stats where tenant_id = ${tenantId} and day between ${from} and ${to}
      group by tenant_id, user_key
    ), fresh as (
      select first_day, periods from seen
      where not exists (select from user_daily_stats earlier
        where earlier.tenant_id = seen.tenant_id and earlier.tenant_id = ${tenantId}
          and earlier.user_key = seen.user_key and earlier.day < ${from})
    )
    select ${start("first_day")}::text as cohort, period::text as seen, count(*)::float8 as users
    from fresh cross join unnest(periods) as period
    group by 1, 2`;
}

export interface RealtimeRow {
  /** Null in the row of all minutes together. */
  minute: string | null;
  events: number;
  activeUsers: number;
}

/**
 * Events and users of each minute from `fromMs` up to `untilMs`, and of all of them, straight from
 * the raw events.
 */
export async function selectMinutes(sql: Sql, tenantId: string, from: string, until: string) {
  return sql<RealtimeRow[]>`
    select to_char(minute at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as minute,
      count(*)::float8 as events, count(distinct user_key)::float8 as "activeUsers"
    from (
      select date_trunc('minute', ts) as minute, coalesce(user_id, anonymous_id, session_id) as user_key
      from events where tenant_id = ${tenantId} and ts >= ${from}::timestamptz and ts < ${until}::timestamptz
        and voided_at is null
    ) recent
    group by grouping sets ((minute), ())`;
}

export interface RealtimeProduct {
  productId: string;
  events: number;
  views: number;
  purchases: number;
}

export async function selectProductsNow(
  sql: Sql,
  tenantId: string,
  from: string,
  until: string,
  limit: number,
) {
  return sql<RealtimeProduct[]>`
    select product_id collate "C" as "productId", count(*)::float8 as events,
      (count(*) filter (where type = 'view'))::float8 as views,
      (count(*) filter (where type = 'purchase'))::float8 as purchases
    from events
    where tenant_id = ${tenantId} and ts >= ${from}::timestamptz and ts < ${until}::timestamptz
      and product_id is not null and voided_at is null
    group by 1 order by 2 desc, 1 limit ${limit}`;
}
