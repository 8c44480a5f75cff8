import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import {
  BUYER_DAILY,
  factsFrom,
  NOT_VOIDED,
  type Rollup,
  UNOWNED_COLUMNS,
  USER_DAILY,
  upsert,
} from "./definitions.ts";
import { type EmptyRow, selectEmpty } from "./empty-rows-repository.ts";
import type { LedgerRow } from "./repository.ts";

/**
 * Batches with anonymous events of a session that are not rolled up yet, except dead letters. The
 * session's events are read once, not once a waiting batch.
 */
export async function selectUndoneBatches(
  sql: Sql,
  tenantId: string,
  sessionId: string,
  limit: number,
): Promise<LedgerRow[]> {
  const rows = await sql<{ batchId: string; minMs: number; maxMs: number }[]>`
    with undone as materialized (
      select tenant_id, batch_id, received_at, min_ts, max_ts from event_batches
      where tenant_id = ${tenantId} and rolled_up_at is null and dead_lettered_at is null
    ), anonymous as materialized (
      select distinct tenant_id, batch_id from events
      where tenant_id = ${tenantId} and session_id = ${sessionId} and user_id is null
        and ts >= (select min(min_ts) from undone) and ts <= (select max(max_ts) from undone)
    )
    select batch_id as "batchId", (extract(epoch from min_ts) * 1000)::float8 as "minMs",
      (extract(epoch from max_ts) * 1000)::float8 as "maxMs"
    from undone join anonymous using (tenant_id, batch_id) order by received_at limit ${limit}`;
  return rows.map((row) => ({ tenantId, ...row }));
}

/** What moved events count under one key: the rollup's own definition, over these events alone. */
function countedBy({ aggregate }: Rollup, userId: string): string {
  const source = `(select moved.*, ${userId} as user_id, ${NOT_VOIDED} from moved) e join tenants t on t.id = e.tenant_id`;
  return `with ${factsFrom(source, "t.id = $1")} ${aggregate}`;
}

/**
 * Gives events to a user and moves what they count in the rollup by user from the old key to the
 * new one. Only events of batches that are rolled up: no worker reads those any more, and additions
 * to the same rows commute. $1 tenant, $2 session, $3 user, $4 how many events at most.
 */
function moveStatement(rollup: Rollup): string {
  const { keys, measures } = rollup;
  const columns = [...keys, ...measures].join(", ");
  const key = keys.join(", ");
  const negated = measures.map((measure) => `-${measure} as ${measure}`);
  const summed = measures.map((measure) => `sum(${measure}) as ${measure}`);
  return `with picked as (
    select e.tenant_id, e.ts, e.id from events e
    where e.tenant_id = $1 and e.session_id = $2 and e.user_id is null and e.voided_at is null
      and not exists (select from event_batches b
        where b.tenant_id = e.tenant_id and b.batch_id = e.batch_id and b.rolled_up_at is null)
    order by e.ts, e.id limit $4
  ), moved as (
    update events e set user_id = $3 from picked
    where e.tenant_id = picked.tenant_id and e.ts = picked.ts and e.id = picked.id and e.tenant_id = $1
      and e.user_id is null and e.voided_at is null
    returning ${UNOWNED_COLUMNS}
  ), lost as (${countedBy(rollup, "null::text")}
  ), gained as (${countedBy(rollup, "$3::text")}
  ), effect as (
    select ${key}, ${summed.join(", ")} from (
      select ${key}, ${negated.join(", ")} from lost union all select ${columns} from gained
    ) sides group by ${key} offset 0
  ), changed as (
    ${upsert(rollup, "select * from effect")} returning day, user_key, events
  )
  select (select count(*)::int from moved) as moved,
    (select (extract(epoch from min(ts)) * 1000)::float8 from moved) as "minMs",
    (select (extract(epoch from max(ts)) * 1000)::float8 from moved) as "maxMs",
    ${selectEmpty(rollup, "changed")} as emptied,
    coalesce((select jsonb_agg(jsonb_build_array(day, user_key, purchases)) from effect where purchases <> 0), '[]')
      as purchases`;
}

const MOVE_EVENTS = moveStatement(USER_DAILY);

export interface Moved {
  moved: number;
  minMs: number | null;
  maxMs: number | null;
  /** Days and keys whose rows now count nothing. */
  emptied: EmptyRow[];
  /** How many purchases more, or less, each day and key has. */
  purchases: [day: string, userKey: string, more: number][];
}

export async function moveEvents(
  tx: Transaction,
  tenantId: string,
  sessionId: string,
  userId: string,
  limit: number,
): Promise<Moved> {
  const [row] = await tx.unsafe<Moved[]>(MOVE_EVENTS, [tenantId, sessionId, userId, limit]);
  return row ?? { moved: 0, minMs: null, maxMs: null, emptied: [], purchases: [] };
}

/**
 * Moves the days of buyers as those of users, in the order of the roll-up. Returns those that now
 * count nothing.
 */
export async function movePurchases(
  tx: Transaction,
  tenantId: string,
  purchases: Moved["purchases"],
): Promise<EmptyRow[]> {
  const { table, keys } = BUYER_DAILY;
  const rows = await tx<{ day: string; user_key: string; purchases: string }[]>`
    insert into ${tx(table)} as kept (tenant_id, day, user_key, purchases)
    select ${tenantId}, day, user_key, more from unnest(${tx.array(purchases.map(([day]) => day))}::date[],
      ${tx.array(purchases.map(([, key]) => key))}::text[], ${tx.array(purchases.map(([, , more]) => String(more)))}::bigint[]) as moved(day, user_key, more)
    order by day, user_key
    on conflict (${tx([...keys])}) do update set purchases = kept.purchases + excluded.purchases
    returning day::text, user_key, purchases`;
  return rows.filter((row) => Number(row.purchases) === 0);
}

/**
 * Waits for a rebuild, whose lock conflicts with this one and not with workers' upserts. Rows that
 * a rebuild has deleted, and those it has not counted yet, must not be changed beside it.
 */
export async function waitForRebuild(tx: Transaction): Promise<void> {
  await tx`lock table product_daily_stats in row exclusive mode`;
}
