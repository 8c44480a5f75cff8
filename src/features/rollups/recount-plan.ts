import { addDays, type Day, nextMonth } from "../../core/days.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";

/**
 * Which days of a tenant a recount visits. Rollups outlive raw events: those older than the
 * tenant's retention may be gone. So a day is visited only if all of it lies within the retention.
 * An operator who knows that all events are there sets the retention to null first. See
 * docs/recounting.md.
 */
export interface TenantZone {
  tenantId: string;
  timeZone: string;
}

export interface DayRange {
  from: Day;
  to: Day;
}

/** Days that are left as they are, since their raw events may be gone. */
export interface Kept {
  before: Day;
  retentionDays: number;
}

export interface RecountPlan {
  /** Days to visit, cut into calendar months. */
  months: DayRange[];
  /** Null when every day that was asked for is visited. */
  kept: Kept | null;
}

/** A clause without its full stop. */
export function describeKept({ before, retentionDays }: Kept): string {
  return `rollups before ${before} are kept as they are: raw events are only kept for ${retentionDays} day${retentionDays === 1 ? "" : "s"}`;
}

/**
 * Within the asked range, by default all days of events and rollups. `slackDays` keeps that far
 * from the edge.
 */
export async function planRecount(
  sql: Sql | Transaction,
  tenant: TenantZone,
  range: Partial<DayRange>,
  slackDays = 0,
): Promise<RecountPlan> {
  const [known, edge] = await Promise.all([selectKnownDays(sql, tenant), selectEdge(sql, tenant)]);
  const from = range.from ?? known.from;
  const to = range.to ?? known.to;
  if (from === null || to === null || from > to) return { months: [], kept: null };
  if (edge === null) return { months: cutIntoMonths(from, to), kept: null };
  const before = addDays(edge.firstWholeDay, slackDays);
  if (from >= before) return { months: cutIntoMonths(from, to), kept: null };
  const someKept = known.firstCounted !== null && known.firstCounted < before;
  return {
    months: cutIntoMonths(before, to),
    kept: someKept ? { before, retentionDays: edge.retentionDays } : null,
  };
}

function cutIntoMonths(from: Day, to: Day): DayRange[] {
  const months: DayRange[] = [];
  for (let start = from; start <= to; start = nextMonth(start)) {
    const end = addDays(nextMonth(start), -1);
    months.push({ from: start, to: end < to ? end : to });
  }
  return months;
}

/**
 * The first day that begins after the edge of the retention, by the clock that stores and deletes
 * events.
 */
async function selectEdge(sql: Sql | Transaction, { tenantId, timeZone }: TenantZone) {
  const [edge] = await sql<{ firstWholeDay: Day; retentionDays: number }[]>`
    select (((now() - make_interval(hours => 24 * event_retention_days)) at time zone ${timeZone})::date + 1)::text
        as "firstWholeDay", event_retention_days as "retentionDays"
    from tenants where id = ${tenantId} and event_retention_days is not null`;
  return edge ?? null;
}

/**
 * A period begins before the days that it is made of, so its start is no evidence of a day with
 * events.
 */
async function selectKnownDays(sql: Sql | Transaction, { tenantId, timeZone }: TenantZone) {
  const [known] = await sql<{ from: Day | null; to: Day | null; firstCounted: Day | null }[]>`
    with days as (
      select (min(ts) at time zone ${timeZone})::date as first, (max(ts) at time zone ${timeZone})::date as last
      from events where tenant_id = ${tenantId}
      union all select min(day), max(day) from product_daily_stats where tenant_id = ${tenantId}
      union all select min(day), max(day) from user_daily_stats where tenant_id = ${tenantId}
      union all select min(day), max(day) from buyer_daily_stats where tenant_id = ${tenantId}
      union all select min(day), max(day) from session_daily_stats where tenant_id = ${tenantId}
      union all select min(day), max(day) from event_daily_stats where tenant_id = ${tenantId}
      union all select min(day), max(day) from property_daily_stats where tenant_id = ${tenantId}
      union all select (min(hour) at time zone ${timeZone})::date, (max(hour) at time zone ${timeZone})::date
      from event_hourly_stats where tenant_id = ${tenantId}
    ), periods as (
      select min(start) as first, max(start) as last from product_period_stats where tenant_id = ${tenantId}
    )
    select least(min(days.first), min(periods.first))::text as from, greatest(max(days.last), max(periods.last))::text as to,
      min(days.first)::text as "firstCounted"
    from days cross join periods`;
  return known ?? { from: null, to: null, firstCounted: null };
}
