import type { Sql } from "../../db/client.ts";
import { pruneTable } from "../../db/prune.ts";
import type { Transaction } from "../../db/transaction.ts";
import { factsFrom, ROLLUPS, upsert } from "./definitions.ts";

export interface BatchId {
  tenantId: string;
  batchId: string;
}

export interface LedgerRow extends BatchId {
  /** Range of the batch's event times in ms; null when it stored none. */
  minMs: number | null;
  maxMs: number | null;
}

/**
 * G2: exactly once. Claims the ledger rows that are not rolled up yet, aggregates their events and
 * upserts every rollup, all or nothing. Only ids go in: Postgres counts (80 k events/s with 10
 * batches of 1000 a statement, 305 k with 200). There are no bounds on `ts`: on a month without
 * statistics they made Postgres read the tenant's whole range by another index. Rows are claimed in
 * key order, so that workers with the same batches never deadlock; a join with a further table
 * would let Postgres choose another order. The ledger records the version of the properties that
 * were counted, for fills.
 */
function rollUpStatement(wanted: string, unclaimed: string): string {
  return `with wanted as materialized (
    select * from unnest($1::uuid[], $2::uuid[]) as w(tenant_id, batch_id) ${wanted} order by tenant_id, batch_id
  ), claimed as (
    update event_batches b set rolled_up_at = now(), dead_lettered_at = null,
      properties_version = (select t.properties_version from tenants t where t.id = b.tenant_id)
    from wanted w
    where b.tenant_id = w.tenant_id and b.batch_id = w.batch_id and b.rolled_up_at is null ${unclaimed}
    returning b.tenant_id, b.batch_id, b.received_at, b.received, b.stored, b.duplicates, b.rejected, b.min_ts, b.max_ts
  ), ${factsFrom(
    `(select claimed.tenant_id, batch_id, time_zone from claimed join tenants on tenants.id = claimed.tenant_id offset 0) t
    join events e on e.tenant_id = t.tenant_id and e.batch_id = t.batch_id`,
    "t.id = any($1::uuid[])",
  )},
  -- Postgres runs these last to first. So the one row that all batches of an hour change is
  -- locked at the very end.
  accounting as (
    insert into ingest_hourly_stats as kept (tenant_id, hour, received, stored, duplicates, rejected)
    select tenant_id, date_trunc('hour', received_at, 'UTC'), sum(received), sum(stored), sum(duplicates), sum(rejected)
    from claimed group by 1, 2 order by 1, 2
    on conflict (tenant_id, hour) do update set received = kept.received + excluded.received,
      stored = kept.stored + excluded.stored, duplicates = kept.duplicates + excluded.duplicates,
      rejected = kept.rejected + excluded.rejected
  ),
  ${ROLLUPS.map((rollup) => `${rollup.table}_upsert as (${upsert(rollup)})`).join(",\n  ")}
  select count(*)::int as claimed from claimed`;
}

/** Passes over what is left to the retries of failing tenants (failing-tenants.ts). */
const ROLL_UP = rollUpStatement(
  "where not exists (select from rollup_failures f where f.tenant_id = w.tenant_id and f.paused)",
  "and not b.held",
);
const ROLL_UP_HELD = rollUpStatement("", "");

/** How many of the batches were not rolled up before; `held` ones only where it says so. */
export async function rollUpBatches(
  sql: Sql | Transaction,
  batches: readonly BatchId[],
  held = false,
): Promise<number> {
  const tenantIds = `{${batches.map((batch) => batch.tenantId).join()}}`;
  const batchIds = `{${batches.map((batch) => batch.batchId).join()}}`;
  const [row] = await sql.unsafe<{ claimed: number }[]>(
    held ? ROLL_UP_HELD : ROLL_UP,
    [tenantIds, batchIds],
    { prepare: true },
  );
  return row?.claimed ?? 0;
}

/** A rebuild holds a lock that analyzing waits for. */
const ANALYZE_LOCK_TIMEOUT = "5s";
const ANALYZE_TIMEOUT = "60s";

export async function analyzeRollups(tx: Transaction): Promise<void> {
  await tx`select set_config('lock_timeout', ${ANALYZE_LOCK_TIMEOUT}, true),
    set_config('statement_timeout', ${ANALYZE_TIMEOUT}, true)`;
  await tx.unsafe(`analyze ${ROLLUPS.map(({ table }) => table).join(", ")}, daily_return_stats`);
}

/**
 * Ledger rows of all tenants that were due `overdueMs` ago, the oldest first, except those of
 * failing tenants.
 */
export async function selectOverdue(sql: Sql, overdueMs: number, limit: number): Promise<LedgerRow[]> {
  const rows = await sql<LedgerColumns[]>`
    select tenant_id, batch_id, min_ts, max_ts from event_batches b
    where rolled_up_at is null and dead_lettered_at is null and not held
      and received_at < now() - ${overdueMs} * interval '1 millisecond'
      and not exists (select from rollup_failures f where f.tenant_id = b.tenant_id and f.paused)
    order by received_at limit ${limit}`;
  return rows.map(toLedgerRow);
}

export interface LedgerColumns {
  tenant_id: string;
  batch_id: string;
  min_ts: Date | null;
  max_ts: Date | null;
}

export function toLedgerRow(row: LedgerColumns): LedgerRow {
  return {
    tenantId: row.tenant_id,
    batchId: row.batch_id,
    minMs: row.min_ts?.getTime() ?? null,
    maxMs: row.max_ts?.getTime() ?? null,
  };
}

/** Of one tenant, those that fail or are held included; no dead letters. */
export async function countOverdue(sql: Sql, tenantId: string, overdueMs: number): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from event_batches
    where tenant_id = ${tenantId} and rolled_up_at is null and dead_lettered_at is null
      and received_at < now() - ${overdueMs} * interval '1 millisecond'`;
  return row?.n ?? 0;
}

/**
 * Records a failed try of a batch, which is held from then on; true when it was the last and the
 * batch is a dead letter now.
 */
export async function recordFailure(
  sql: Sql,
  batch: BatchId,
  error: string,
  maxAttempts: number,
): Promise<boolean> {
  const [row] = await sql<{ dead: boolean }[]>`
    update event_batches set attempts = attempts + 1, last_error = ${error}, held = true,
      dead_lettered_at = case when attempts + 1 >= ${maxAttempts} then now() end
    where tenant_id = ${batch.tenantId} and batch_id = ${batch.batchId} and rolled_up_at is null
    returning dead_lettered_at is not null as dead`;
  return row?.dead ?? false;
}

/** Where a page of dead letters ended. */
export interface DeadLetterPlace {
  /** RFC 3339 with milliseconds. */
  receivedAt: string;
  id: string;
}

export interface DeadLetter {
  id: string;
  events: number;
  attempts: number;
  error: string;
  receivedAt: Date;
  deadLetteredAt: Date;
}

/** A tenant's dead-lettered batches after the place where the last page ended, the oldest first. */
export async function selectDeadLetters(
  sql: Sql,
  tenantId: string,
  { limit, after }: { limit: number; after?: DeadLetterPlace },
): Promise<DeadLetter[]> {
  // A place is written to the millisecond, as answers are.
  return sql<DeadLetter[]>`
    select batch_id as id, stored as events, attempts, coalesce(last_error, '') as error,
      received_at as "receivedAt", dead_lettered_at as "deadLetteredAt"
    from event_batches
    where tenant_id = ${tenantId} and rolled_up_at is null and dead_lettered_at is not null
      ${after ? sql`and (date_trunc('milliseconds', received_at), batch_id) > (${after.receivedAt}, ${after.id})` : sql``}
    order by date_trunc('milliseconds', received_at), batch_id limit ${limit}`;
}

/**
 * Gives a dead letter all its tries again, as a held batch; false when there is none with this id.
 */
export async function reviveDeadLetter(
  sql: Transaction,
  tenantId: string,
  batchId: string,
): Promise<boolean> {
  const rows = await sql`
    update event_batches set attempts = 0, last_error = null, dead_lettered_at = null, held = true
    where tenant_id = ${tenantId} and batch_id = ${batchId} and rolled_up_at is null and dead_lettered_at is not null
    returning batch_id`;
  return rows.length > 0;
}

/** Undone batches of a tenant: how many wait, and how many are dead letters. */
export async function selectBacklog(sql: Sql, tenantId: string) {
  const [row] = await sql<{ waiting: number; dead: number }[]>`
    select count(*) filter (where dead_lettered_at is null)::int as waiting,
      count(*) filter (where dead_lettered_at is not null)::int as dead
    from event_batches where tenant_id = ${tenantId} and rolled_up_at is null`;
  return row ?? { waiting: 0, dead: 0 };
}

/** For monitoring of a tenant: however many of its batches wait, it reads none of those. */
export async function countDeadLetters(sql: Sql, tenantId: string): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from event_batches
    where tenant_id = ${tenantId} and rolled_up_at is null and dead_lettered_at is not null`;
  return row?.n ?? 0;
}

/**
 * Since when (ms) the oldest batch of a tenant waits. Every answer asks for it, so it must not
 * count.
 */
export async function selectOldestWaiting(sql: Sql, tenantId: string): Promise<{ oldestMs: number | null }> {
  const [row] = await sql<{ oldest: Date }[]>`
    select received_at as oldest from event_batches
    where tenant_id = ${tenantId} and rolled_up_at is null and dead_lettered_at is null
    order by received_at limit 1`;
  return { oldestMs: row?.oldest.getTime() ?? null };
}

/**
 * Deletes done ledger rows older than an hour (their counts are in ingest_hourly_stats); returns
 * how many. Rows of a tenant with a property that is being filled stay: they tell which events
 * count it already.
 */
export async function pruneLedger(sql: Sql, limit: number): Promise<number> {
  const over = sql`received_at < now() - interval '1 hour' and rolled_up_at < now() - interval '1 hour'`;
  const spared = sql`tenant_id in (select tenant_id from property_fills)`;
  const key = { tenant_id: "uuid", batch_id: "uuid" } as const;
  return pruneTable(sql, { table: "event_batches", key, over, orderBy: "received_at", spared }, limit);
}

/** Deletes expired deduplication keys; returns how many. */
export async function pruneEventKeys(sql: Sql, limit: number): Promise<number> {
  const key = { tenant_id: "uuid", message_id: "text" } as const;
  const over = sql`expires_at < now()`;
  return pruneTable(sql, { table: "event_keys", key, over, orderBy: "expires_at" }, limit);
}
