import { addDays, type Day } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { operatorContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { retryRolledBack } from "../../db/failures.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import {
  COUNTED_BY_NOW,
  factsFrom,
  PRODUCT_DAILY,
  PRODUCT_PERIODS,
  PROPERTY_DAILY,
  ROLLUPS,
  type Rollup,
} from "./definitions.ts";
import { retrySoon } from "./failing-repository.ts";
import { selectFilling } from "./property-fills-repository.ts";
import { type DayRange, describeKept, type Kept, planRecount, type TenantZone } from "./recount-plan.ts";
import { selectBacklog } from "./repository.ts";
import { changeReturns, compareReturns, lockReturns, RETURNS, recountReturns } from "./returns-repository.ts";

/**
 * G4: `verify` recounts a tenant's rollups from its raw events and compares row by row; `rebuild`
 * replaces them. Both go month by month, and leave days alone whose raw events may be gone. A batch
 * that is not rolled up yet counts on neither side. Each comparison is one statement, so its
 * snapshot holds events, ledger and rollups of the same instant, and ingest and workers go on. See
 * docs/recounting.md.
 */
export interface Difference {
  table: string;
  key: Record<string, string>;
  /** Measures that differ: what the raw events say and what the table says (null: no row). */
  expected: Record<string, string> | null;
  actual: Record<string, string> | null;
}

export interface VerifyReport {
  rowsChecked: number;
  differences: Difference[];
  differing: number;
  /** Batches committed but not rolled up yet, and those that were given up. */
  waiting: number;
  dead: number;
  /** Properties of which only what is filled by now was compared. */
  filling: string[];
  /** Days that were not compared. */
  kept: Kept | null;
}

const MAX_DIFFERENCES_SHOWN = 100;

/**
 * $1 tenant, $2 first day, $3 day after the last, $4 time zone. An instant belongs to the day that
 * its local clock shows. The range of instants around it is for the indexes, and wide enough for a
 * midnight that happens twice.
 */
const onDays = (instant: string) => `${instant} >= $2::date::timestamp at time zone $4 - interval '1 day'
  and ${instant} < $3::date::timestamp at time zone $4 + interval '1 day'
  and (${instant} at time zone $4)::date >= $2::date and (${instant} at time zone $4)::date < $3::date`;

/**
 * Batches that may themselves count a property that is still being filled; `counted` checks their
 * versions.
 */
const NEWER = `(select tenant_id, batch_id, properties_version from event_batches where tenant_id = $1 and properties_version >=
  (select min(version) from property_fills where tenant_id = $1 and state = 'filling'))`;

const RECOUNTED = factsFrom(
  `(select events.*, newer.properties_version from events
      left join ${NEWER} newer on newer.tenant_id = events.tenant_id and newer.batch_id = events.batch_id
    ) e join tenants t on t.id = e.tenant_id`,
  "t.id = $1",
  `e.tenant_id = $1 and t.id = $1 and ${onDays("e.ts")}
    and not exists (select from event_batches b
      where b.tenant_id = e.tenant_id and b.batch_id = e.batch_id and b.rolled_up_at is null)`,
  COUNTED_BY_NOW,
);

/** The months that the range touches, as whole ones. */
const inMonths = (day: string) => `${day} >= date_trunc('month', $2::date)
  and ${day} < date_trunc('month', $3::date - 1) + interval '1 month'`;

/**
 * Periods are made from the days that are kept: raw events of the rest of a month may be gone, or
 * not asked for.
 */
const KEPT = `product_days as (
  select * from ${PRODUCT_DAILY.table} where tenant_id = $1 and ${inMonths("day")}
)`;

function sourceOf(rollup: Rollup): string {
  return rollup === PRODUCT_PERIODS ? KEPT : RECOUNTED;
}

/** Mentions $4 either way, since Postgres wants every parameter used. */
function inRange({ bucket }: Rollup): string {
  if (bucket === "hour") return `tenant_id = $1 and ${onDays("hour")}`;
  const days = bucket === "day" ? "day >= $2::date and day < $3::date" : inMonths("start");
  return `tenant_id = $1 and ${days} and $4::text is not null`;
}

/** Rows of a property that was given up go in the background. */
function notCleared(rollup: Rollup): string {
  return rollup === PROPERTY_DAILY
    ? "and property not in (select property from property_fills where tenant_id = $1 and state = 'clearing')"
    : "";
}

/**
 * Rows counted, and the differing ones with both sides. `using` makes the keys columns of the join.
 */
function compare(rollup: Rollup): string {
  const { table, keys, measures, aggregate } = rollup;
  const asJson = (row: string, columns: readonly string[]) =>
    `jsonb_build_object(${columns.map((column) => `'${column}', ${row}${column}::text`).join(", ")})`;
  const differs = measures
    .map((measure) => `expected.${measure} is distinct from actual.${measure}`)
    .join(" or ");
  return `with ${sourceOf(rollup)}, expected as (select true as found, recounted.* from (${aggregate}) recounted),
    actual as (select true as found, kept.* from ${table} kept where ${inRange(rollup)} ${notCleared(rollup)}),
    compared as (
      select (${differs}) as differs, ${asJson("", keys.slice(1))} as key,
        case when expected.found then ${asJson("expected.", measures)} end as expected,
        case when actual.found then ${asJson("actual.", measures)} end as actual
      from expected full join actual using (${keys.join(", ")})
    )
    select count(*)::int as rows, count(*) filter (where differs)::int as differing,
      coalesce((select jsonb_agg(jsonb_build_object('key', key, 'expected', expected, 'actual', actual))
        from (select * from compared where differs order by key limit ${MAX_DIFFERENCES_SHOWN}) shown), '[]') as shown
    from compared`;
}

function refill(rollup: Rollup): string {
  const { keys, measures, aggregate, table } = rollup;
  const columns = [...keys, ...measures].join(", ");
  // In key order, so that rows that are read together lie together: half the time of a table over a
  // year. The same transaction takes them into daily_return_stats, see `replaceDays`.
  const [foldedColumn, folded] = RETURNS.some((returns) => returns.table === table)
    ? [", folded", ", true"]
    : ["", ""];
  return `with ${sourceOf(rollup)} insert into ${table} (${columns}${foldedColumn})
    select ${columns}${folded} from (${aggregate}) recounted where $4::text is not null order by ${keys.join(", ")}`;
}

/**
 * Compares every rollup of a tenant with its raw events, by default over all days that either of
 * them knows. `onProgress` gets each month when it is done.
 */
export async function verifyTenant(
  sql: Sql,
  tenant: TenantZone,
  range: Partial<DayRange>,
  onProgress: (month: Day, report: VerifyReport) => void = () => {},
): Promise<VerifyReport> {
  const plan = await planRecount(sql, tenant, range);
  const report: VerifyReport = {
    rowsChecked: 0,
    differences: [],
    differing: 0,
    waiting: 0,
    dead: 0,
    filling: await selectFilling(sql, tenant.tenantId),
    kept: plan.kept,
  };
  for (const months of plan.months) {
    for (const rollup of ROLLUPS) {
      // Periods are made of days: if those are wrong, the periods would only repeat each
      // difference.
      if (rollup === PRODUCT_PERIODS && tellsOf(report, PRODUCT_DAILY.table)) continue;
      const [row] = await sql.unsafe<CompareRow[]>(compare(rollup), parametersOf(tenant, months));
      if (!row) continue;
      addTo(report, rollup.table, row);
    }
    onProgress(months.from, report);
  }
  if (range.from === undefined && range.to === undefined) {
    await verifyReturns(sql, tenant, report);
    await verifyAccounting(sql, tenant, report);
  }
  const { waiting, dead } = await selectBacklog(sql, tenant.tenantId);
  return { ...report, waiting, dead };
}

function tellsOf({ differences }: VerifyReport, table: string): boolean {
  return differences.some((difference) => difference.table === table);
}

interface CompareRow {
  rows: number;
  differing: number;
  shown: Omit<Difference, "table">[];
}

function addTo(report: VerifyReport, table: string, { rows, differing, shown }: CompareRow): void {
  report.rowsChecked += rows;
  report.differing += differing;
  const room = MAX_DIFFERENCES_SHOWN - report.differences.length;
  for (const difference of shown.slice(0, room)) report.differences.push({ table, ...difference });
}

/** Counts are made of rows: if those are wrong, the counts would only repeat each difference. */
async function verifyReturns(sql: Sql, { tenantId }: TenantZone, report: VerifyReport): Promise<void> {
  for (const returns of RETURNS) {
    if (tellsOf(report, returns.table)) continue;
    addTo(report, "daily_return_stats", await compareReturns(sql, tenantId, returns, MAX_DIFFERENCES_SHOWN));
  }
}

/**
 * The hourly accounting adds up, and counts as many stored as there are events, unless retention
 * deleted some.
 */
async function verifyAccounting(sql: Sql, { tenantId }: TenantZone, report: VerifyReport): Promise<void> {
  const rows = await sql<{ hour: string; expected: string; actual: string }[]>`
    with recounted as (
      select date_trunc('hour', e.received_at, 'UTC') as hour, count(*) as stored from events e
      where e.tenant_id = ${tenantId} and not exists (select from event_batches b
        where b.tenant_id = e.tenant_id and b.batch_id = e.batch_id and b.rolled_up_at is null)
      group by 1
    )
    select hour::text, coalesce(r.stored, 0)::text as expected, coalesce(i.stored, 0)::text as actual
    from recounted r full join (select * from ingest_hourly_stats where tenant_id = ${tenantId}) i using (hour)
    where i.received is distinct from i.stored + i.duplicates + i.rejected
      or coalesce(i.stored, 0) < coalesce(r.stored, 0)
      or (coalesce(i.stored, 0) > coalesce(r.stored, 0)
        and (select event_retention_days from tenants where id = ${tenantId}) is null)
    order by hour`;
  report.differing += rows.length;
  for (const { hour, expected, actual } of rows.slice(0, MAX_DIFFERENCES_SHOWN)) {
    report.differences.push({
      table: "ingest_hourly_stats",
      key: { hour },
      expected: { stored: expected },
      actual: { stored: actual },
    });
  }
}

/**
 * Replaces a tenant's rollups by a recount, a month a transaction. The lock of one rollup table
 * keeps the workers out for that time: each of their statements writes it, and waits for its lock
 * before it takes its snapshot. Ingest and readers go on. Returns the months done.
 */
export async function rebuildTenant(
  transactions: Sql,
  tenant: TenantZone,
  range: Partial<DayRange>,
  onProgress: (month: Day) => void = () => {},
): Promise<{ months: number; kept: Kept | null }> {
  const { months, kept } = await planRecount(transactions, tenant, range);
  for (const month of months) {
    await retryRolledBack(() => transactions.begin((tx) => replaceDays(tx, tenant, month)));
    onProgress(month.from);
  }
  await mendReturns(transactions, tenant);
  return { months: months.length, kept };
}

/**
 * Unique users and sessions stay right: the rows leave and enter their counts in this transaction.
 */
async function replaceDays(tx: Transaction, tenant: TenantZone, { from, to }: DayRange): Promise<void> {
  const { tenantId } = tenant;
  const days = { from, until: addDays(to, 1) };
  const parameters = parametersOf(tenant, { from, to });
  await tx`lock table product_daily_stats in share row exclusive mode`;
  for (const returns of RETURNS) {
    await lockReturns(tx, tenantId, returns);
    await changeReturns(tx, tenantId, returns, { days, direction: "out" });
  }
  for (const rollup of ROLLUPS) {
    await tx.unsafe(`delete from ${rollup.table} where ${inRange(rollup)}`, parameters);
    await tx.unsafe(refill(rollup), parameters);
  }
  for (const returns of RETURNS) await changeReturns(tx, tenantId, returns, { days, direction: "in" });
}

/**
 * Counts that were wrong before are still wrong. They are compared first, since counting anew
 * blocks links and the folder.
 */
async function mendReturns(transactions: Sql, { tenantId }: TenantZone): Promise<void> {
  for (const returns of RETURNS) {
    const { differing } = await compareReturns(transactions, tenantId, returns, 0);
    if (differing === 0) continue;
    await retryRolledBack(() =>
      transactions.begin(async (tx) => {
        await lockReturns(tx, tenantId, returns);
        await recountReturns(tx, tenantId, returns);
      }),
    );
  }
}

/** The edge of the retention moves on between a change of the zone and the end of its rebuild. */
const DAYS_TO_REBUILD_IN = 2;

/**
 * Gives a tenant another time zone; its rollups are wrong until they are rebuilt. It takes the same
 * lock as a rebuild, so that no batch is counted in the old zone any more. Throws `conflict` where
 * a rebuild would leave days in the old zone.
 */
export async function changeTimeZone(transactions: Sql, tenant: TenantZone): Promise<void> {
  const { tenantId, timeZone } = tenant;
  await transactions.begin(async (tx) => {
    await tx`lock table product_daily_stats in share row exclusive mode`;
    const { kept } = await planRecount(tx, tenant, {}, DAYS_TO_REBUILD_IN);
    if (kept !== null)
      throw new AppError(
        "conflict",
        `The time zone can't change: days can't be counted anew without their events, and ${describeKept(kept)}.`,
      );
    const [before] = await tx<{ timeZone: string }[]>`
      select time_zone as "timeZone" from tenants where id = ${tenantId} for update`;
    await tx`update tenants set time_zone = ${timeZone} where id = ${tenantId}`;
    await retrySoon(tx, tenantId, true);
    const entry = { action: "tenant.updated", target: tenantId, before, after: { timeZone } };
    await recordAudit(tx, operatorContext(tenantId), entry);
  });
}

function parametersOf({ tenantId, timeZone }: TenantZone, { from, to }: DayRange): string[] {
  return [tenantId, from, addDays(to, 1), timeZone];
}
