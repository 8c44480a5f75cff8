import type { Fragment, Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { type LedgerColumns, type LedgerRow, toLedgerRow } from "./repository.ts";

/** Rows of `rollup_failures` and the batches that they hold: see failing-tenants.ts. */

const FIRST_RETRY_SECONDS = 2;
const MAX_RETRY_SECONDS = 600;
/** Of a paused tenant of which nothing waits. */
const IDLE_RETRY_SECONDS = 10;
/** 2 s doubled nine times is beyond the maximum. */
const MAX_DOUBLINGS = 9;
const FORGIVEN_AFTER = "1 hour";

/** Seconds until the next try after so many failures. */
function delay(sql: Sql, failures: Fragment): Fragment {
  return sql`least(${MAX_RETRY_SECONDS}::float8, ${FIRST_RETRY_SECONDS}::float8
    * power(2, least(${failures} - 1, ${MAX_DOUBLINGS}::int))) * interval '1 second'`;
}

/** Records one more failure of a tenant and pauses it. Once it is paused, only its retries fail. */
export async function pauseTenant(sql: Sql, tenantId: string, error: string): Promise<void> {
  await sql`
    insert into rollup_failures as failing (tenant_id, failures, failed_at, paused, retry_at, last_error)
    values (${tenantId}, 1, now(), true, now() + ${delay(sql, sql`1`)}, ${error})
    on conflict (tenant_id) do update set paused = true, failed_at = now(), last_error = excluded.last_error,
      failures = case when ${recent(sql)} then failing.failures + 1 else 1 end,
      retry_at = now() + case when ${recent(sql)} then ${delay(sql, sql`failing.failures + 1`)} else ${delay(sql, sql`1`)} end
    where not failing.paused`;
}

function recent(sql: Sql): Fragment {
  return sql`failing.failed_at >= now() - ${FORGIVEN_AFTER}::interval`;
}

/**
 * Takes waiting batches of paused tenants out of the index of overdue ones: a tenant that fails for
 * days may have millions. Returns how many, at most `limit`. A tenant whose pause ends meanwhile is
 * made due again: its retries may have seen just before that nothing is held.
 */
export async function holdBatches(sql: Sql, overdueMs: number, limit: number): Promise<number> {
  const paused = await sql<{ id: string }[]>`select tenant_id as id from rollup_failures where paused`;
  if (paused.length === 0) return 0;
  const ids = paused.map(({ id }) => id);
  const held = await sql`
    update event_batches b set held = true
    from (
      select tenant_id, batch_id from event_batches
      where rolled_up_at is null and dead_lettered_at is null and not held
        and received_at < now() - ${overdueMs} * interval '1 millisecond'
        and tenant_id = any(${ids}::uuid[])
      order by received_at limit ${limit}
    ) waiting
    where b.tenant_id = waiting.tenant_id and b.batch_id = waiting.batch_id and b.rolled_up_at is null`;
  if (held.count > 0)
    await sql`update rollup_failures set retry_at = now() where tenant_id = any(${ids}::uuid[]) and not paused`;
  return held.count;
}

export interface FailingTenant {
  tenantId: string;
  failures: number;
  paused: boolean;
  /** When it is due again; text keeps the microseconds. */
  retryAt: string;
}

export async function selectDueTenants(sql: Sql, limit: number): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    select tenant_id as id from rollup_failures where retry_at <= now() order by retry_at limit ${limit}`;
  return rows.map(({ id }) => id);
}

/** Before its time; where nothing is held, nothing is due. */
export async function hastenRetry(sql: Sql, tenantId: string): Promise<void> {
  await sql`update rollup_failures set retry_at = now() where tenant_id = ${tenantId} and retry_at is not null`;
}

/**
 * Makes it due again later, so that one worker tries. A worker that dies during the try costs that
 * delay.
 */
export async function claimRetry(sql: Sql, tenantId: string): Promise<FailingTenant | null> {
  const [claimed] = await sql<FailingTenant[]>`
    update rollup_failures set retry_at = now() + ${delay(sql, sql`failures + 1`)}
    where tenant_id = ${tenantId} and retry_at <= now()
    returning tenant_id as "tenantId", failures, paused, retry_at::text as "retryAt"`;
  return claimed ?? null;
}

/**
 * What waits for the retries of a tenant, the oldest first: held batches, or all while it is
 * paused.
 */
export async function selectHeld(
  sql: Sql,
  { tenantId, paused }: FailingTenant,
  limit: number,
): Promise<LedgerRow[]> {
  const rows = await sql<LedgerColumns[]>`
    select tenant_id, batch_id, min_ts, max_ts from event_batches
    where tenant_id = ${tenantId} and rolled_up_at is null and dead_lettered_at is null and (held or ${paused})
    order by received_at limit ${limit}`;
  return rows.map(toLedgerRow);
}

/** Postgres may count it now, or some of it. */
export async function resumeTenant(sql: Sql, tenantId: string): Promise<void> {
  await sql`update rollup_failures set paused = false, revive_before = now() where tenant_id = ${tenantId} and paused`;
}

/** The end of a retry that met a failure. */
export async function recordRetryFailure(sql: Sql, tenantId: string): Promise<void> {
  await sql`
    update rollup_failures set failures = failures + 1, failed_at = now(), retry_at = now() + ${delay(sql, sql`failures + 1`)}
    where tenant_id = ${tenantId}`;
}

/**
 * The end of a retry without failures. If nothing was counted either, since all that failed is a
 * dead letter, the tenant stays paused and is tried again soon with its next batches. If the tenant
 * was made due since this retry claimed it, it stays due: this retry may not have seen the new
 * batches.
 */
export async function recordRetrySuccess(
  sql: Sql,
  { tenantId, retryAt }: FailingTenant,
  more: boolean,
): Promise<void> {
  await sql`
    update rollup_failures set
      retry_at = case when paused then now() + ${IDLE_RETRY_SECONDS} * interval '1 second' else ${more ? sql`now()` : sql`null`} end
    where tenant_id = ${tenantId} and retry_at = ${retryAt}::text::timestamptz`;
}

/**
 * Gives dead letters from before `revive_before` all their tries again; returns how many, at most
 * `limit`.
 */
export async function reviveDeadLetters(sql: Sql, tenantId: string, limit: number): Promise<number> {
  const revived = await sql`
    update event_batches b set attempts = 0, dead_lettered_at = null, held = true
    from (
      select d.tenant_id, d.batch_id from event_batches d
      join rollup_failures f on f.tenant_id = d.tenant_id and d.dead_lettered_at <= f.revive_before
      where d.tenant_id = ${tenantId} and d.rolled_up_at is null order by d.received_at limit ${limit}
    ) dead
    where b.tenant_id = dead.tenant_id and b.batch_id = dead.batch_id and b.rolled_up_at is null`;
  if (revived.count < limit)
    await sql`update rollup_failures set revive_before = null where tenant_id = ${tenantId}`;
  return revived.count;
}

/**
 * All batches of a tenant that could not be rolled up are due at once; with `dead`, its dead
 * letters, too.
 */
export async function retrySoon(sql: Sql | Transaction, tenantId: string, dead: boolean): Promise<void> {
  const revive = dead ? sql`now()` : sql`null`;
  await sql`
    insert into rollup_failures as failing (tenant_id, retry_at, revive_before) values (${tenantId}, now(), ${revive})
    on conflict (tenant_id) do update set failures = 0, retry_at = now(),
      revive_before = coalesce(excluded.revive_before, failing.revive_before)`;
}
