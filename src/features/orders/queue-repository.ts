import { newId } from "../../core/ids.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";

export interface QueueCounts {
  /** Commands that wait, those under way included. */
  depth: number;
  oldestAgeMs: number;
  /** Of the waiting ones: failed at least once, tried again later. */
  retrying: number;
  dead: number;
  groups: number;
  handledLastMinute: number;
}

/** Of one tenant, or of the whole installation (null) for metrics. */
export async function selectCounts(sql: Sql, tenantId: string | null): Promise<QueueCounts> {
  const ofTenant = tenantId === null ? sql`true` : sql`tenant_id = ${tenantId}`;
  const [row] = await sql<QueueCounts[]>`
    select waiting.*, dead.*, handled.* from (
      select count(*)::int as depth, count(distinct (tenant_id, group_id))::int as groups,
        count(*) filter (where attempts > 0)::int as retrying,
        coalesce(extract(epoch from now() - min(created_at)) * 1000, 0)::float8 as "oldestAgeMs"
      from order_commands where state = 'waiting' and ${ofTenant}
    ) waiting, (
      select count(*)::int as dead from order_commands where state = 'dead' and ${ofTenant}
    ) dead, (
      select count(*)::int as "handledLastMinute" from order_commands
      where state = 'done' and finished_at > now() - interval '1 minute' and ${ofTenant}
    ) handled`;
  if (!row) throw new Error("an aggregate has one row");
  return row;
}

export interface HandledCounts {
  worker: string;
  applied: number;
  refused: number;
}

/** What each worker handled for a tenant in the last minute, and how long it took from the 202. */
export async function selectThroughput(sql: Sql, tenantId: string) {
  const [workers, [latency]] = await Promise.all([
    sql<HandledCounts[]>`
      select finished_by as worker, count(*) filter (where outcome = 'applied')::int as applied,
        count(*) filter (where outcome = 'refused')::int as refused
      from order_commands
      where tenant_id = ${tenantId} and state = 'done' and outcome <> 'purged' and finished_at > now() - interval '1 minute'
      group by finished_by order by finished_by`,
    sql<{ p50: number | null; p99: number | null }[]>`
      select percentile_cont(0.5) within group (order by ms)::float8 as p50,
        percentile_cont(0.99) within group (order by ms)::float8 as p99
      from (select extract(epoch from finished_at - created_at) * 1000 as ms from order_commands
        where tenant_id = ${tenantId} and state = 'done' and outcome <> 'purged' and finished_at > now() - interval '1 minute') took`,
  ]);
  return { workers, p50Ms: latency?.p50 ?? null, p99Ms: latency?.p99 ?? null };
}

export interface DeadCommand {
  id: string;
  orderId: string;
  groupId: string;
  command: "create" | "status" | "cancel";
  attempts: number;
  error: string;
  receivedAt: Date;
  deadLetteredAt: Date;
}

/**
 * A tenant's dead-lettered commands after the place where the last page ended, the oldest first.
 */
export async function selectDead(
  sql: Sql,
  tenantId: string,
  { limit, after }: { limit: number; after?: { receivedAt: string; id: string } },
): Promise<DeadCommand[]> {
  // A place is written to the millisecond, as answers are.
  return sql<DeadCommand[]>`
    select id, order_id as "orderId", group_id as "groupId", kind as command, attempts,
      coalesce(last_error, '') as error, created_at as "receivedAt", finished_at as "deadLetteredAt"
    from order_commands where tenant_id = ${tenantId} and state = 'dead'
      ${after ? sql`and (date_trunc('milliseconds', created_at), id) > (${after.receivedAt}, ${after.id})` : sql``}
    order by date_trunc('milliseconds', created_at), id limit ${limit}`;
}

/**
 * Gives a dead command all its tries again, at the end of its group: the group has gone on, and the
 * lock of its present first command would not keep an older one from being handled beside it.
 * Returns the group; null when there is no such command.
 */
export async function reviveDead(tx: Transaction, tenantId: string, id: string): Promise<string | null> {
  const [dead] = await tx<{ groupId: string }[]>`
    select group_id as "groupId" from order_commands
    where tenant_id = ${tenantId} and id = ${id} and state = 'dead' for update`;
  if (!dead) return null;
  await tx`
    with turn as (
      update order_groups set next_position = next_position + 1
      where tenant_id = ${tenantId} and group_id = ${dead.groupId} returning next_position - 1 as position
    )
    update order_commands c set position = turn.position, state = 'waiting', attempts = 0, last_error = null,
      finished_at = null, due_at = now()
    from turn where c.tenant_id = ${tenantId} and c.group_id = ${dead.groupId} and c.id = ${id}`;
  return dead.groupId;
}

/**
 * Cancels orders that wait to be handled, at most `limit`, with the reason `purged`. Commands that
 * a worker holds are left to it, and commands on orders that were accepted before stay. `found`:
 * how many commands it took, `purged`: the orders that were still waiting.
 */
export async function purgeWaiting(tx: Transaction, tenantId: string, limit: number, by: string) {
  const found = await tx<{ orderId: string; groupId: string; position: string; id: string }[]>`
    select order_id as "orderId", group_id as "groupId", position, id from order_commands
    where tenant_id = ${tenantId} and state = 'waiting' and kind = 'create'
    limit ${limit} for update skip locked`;
  if (found.length === 0) return { found: 0, purged: [] };
  const rows = tx.json(found.map((row) => ({ ...row, historyId: newId() })));
  const purged = await tx<{ orderId: string; customerName: string; customerEmail: string }[]>`
    with purged as (
      update orders o set status = 'cancelled', reason = 'purged', updated_at = now()
      from jsonb_to_recordset(${rows}) as p("orderId" uuid)
      where o.tenant_id = ${tenantId} and o.id = p."orderId" and o.status = 'queued'
      returning o.id, o.customer_name, o.customer_email
    ), history as (
      insert into order_history (tenant_id, order_id, id, position, message_id, from_status, to_status, outcome, reason, at)
      select ${tenantId}::uuid, p."orderId", p."historyId", p.position, p.id, 'queued', 'cancelled', 'applied', 'purged', now()
      from jsonb_to_recordset(${rows}) as p("orderId" uuid, "historyId" uuid, position bigint, id uuid)
      join purged on purged.id = p."orderId"
    ), done as (
      update order_commands c set state = 'done', outcome = 'purged', finished_at = now(), finished_by = ${by}
      from jsonb_to_recordset(${rows}) as p("groupId" text, position bigint)
      where c.tenant_id = ${tenantId} and c.group_id = p."groupId" and c.position = p.position
    )
    select id as "orderId", customer_name as "customerName", customer_email as "customerEmail" from purged`;
  return { found: found.length, purged };
}

export interface WorkerRow {
  name: string;
  startedAt: Date;
  seenAt: Date;
  ageMs: number;
  /** This tenant's commands under way at the last heartbeat. */
  inFlight: number;
}

export async function selectWorkers(sql: Sql, tenantId: string): Promise<WorkerRow[]> {
  return sql<WorkerRow[]>`
    select name, started_at as "startedAt", seen_at as "seenAt",
      greatest(extract(epoch from clock_timestamp() - seen_at) * 1000, 0)::float8 as "ageMs",
      coalesce((in_flight ->> ${tenantId}::text)::int, 0) as "inFlight"
    from workers order by name`;
}

export async function upsertWorker(
  sql: Sql,
  worker: { name: string; startedAt: string; inFlight: Record<string, number> },
): Promise<void> {
  await sql`
    insert into workers (name, started_at, seen_at, in_flight)
    values (${worker.name}, ${worker.startedAt}, now(), ${sql.json(worker.inFlight)})
    on conflict (name) do update set seen_at = excluded.seen_at, in_flight = excluded.in_flight`;
}

export async function deleteWorker(sql: Sql, name: string): Promise<void> {
  await sql`delete from workers where name = ${name}`;
}

/** Forgets processes that were killed long ago; returns how many. */
export async function pruneWorkers(sql: Sql): Promise<number> {
  const rows = await sql`delete from workers where seen_at < now() - interval '1 hour'`;
  return rows.count;
}
