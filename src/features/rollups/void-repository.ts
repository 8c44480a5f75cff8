import type { Transaction } from "../../db/transaction.ts";
import { COUNTED_BY_NOW, factsFrom, NOT_VOIDED, ROLLUPS, UNOWNED_COLUMNS, upsert } from "./definitions.ts";
import { dropEmptyRows, type EmptyRow, selectEmpty } from "./empty-rows-repository.ts";
import type { BatchId, LedgerRow } from "./repository.ts";

/** Which event: an id alone says its time, and the time its partition. */
export interface EventKey {
  id: string;
  /** RFC 3339. */
  ts: string;
}

export interface VoidableEvent {
  batchId: string;
  type: string;
  productId: string | null;
  userId: string | null;
  anonymousId: string | null;
  sessionId: string | null;
  messageId: string | null;
  quantity: number | null;
  /** Exact decimal text. */
  unitPrice: string | null;
  properties: Record<string, unknown> | null;
  voidedAt: Date | null;
}

export async function selectVoidable(
  tx: Transaction,
  tenantId: string,
  { id, ts }: EventKey,
): Promise<VoidableEvent | null> {
  const [row] = await tx<VoidableEvent[]>`
    select batch_id as "batchId", type, product_id as "productId", user_id as "userId", anonymous_id as "anonymousId",
      session_id as "sessionId", message_id as "messageId", quantity, unit_price::text as "unitPrice", properties,
      voided_at as "voidedAt"
    from events where tenant_id = ${tenantId} and ts = ${ts} and id = ${id}`;
  return row ?? null;
}

/**
 * The locked ledger row of a batch that is not rolled up: until the commit no worker can claim it.
 * Waits for a worker that has. Null once it is rolled up.
 */
export async function lockUndoneBatch(
  tx: Transaction,
  { tenantId, batchId }: BatchId,
): Promise<LedgerRow | null> {
  const [row] = await tx<{ minMs: number; maxMs: number }[]>`
    select (extract(epoch from min_ts) * 1000)::float8 as "minMs", (extract(epoch from max_ts) * 1000)::float8 as "maxMs"
    from event_batches where tenant_id = ${tenantId} and batch_id = ${batchId} and rolled_up_at is null for update`;
  return row ? { tenantId, batchId, ...row } : null;
}

const UNVOIDED = "where e.tenant_id = $1 and e.ts = $2 and e.id = $3 and e.voided_at is null";

/** For an event that no rollup has counted yet. False when another call was first. */
export async function markVoided(
  tx: Transaction,
  tenantId: string,
  { id, ts }: EventKey,
  voidedAt: string,
): Promise<boolean> {
  const mark = `update events e set voided_at = $4 ${UNVOIDED}`;
  const { count } = await tx.unsafe(mark, [tenantId, ts, id, voidedAt]);
  return count > 0;
}

/**
 * Marks an event and takes what it counts out of each rollup, by the rollups' own definitions.
 * Tables and rows are written in the order of the roll-up, whose last CTE Postgres runs first, so
 * the two never deadlock. $1 tenant, $2 time and $3 id of the event, $4 since when.
 */
const TAKE_OUT = `with voided as (
    update events e set voided_at = $4 ${UNVOIDED}
    returning ${UNOWNED_COLUMNS}, e.user_id, e.id, e.batch_id
  ), ${factsFrom(
    `(select voided.*, ${NOT_VOIDED}, b.properties_version from voided
        left join event_batches b on b.tenant_id = voided.tenant_id and b.batch_id = voided.batch_id
      ) e join tenants t on t.id = e.tenant_id`,
    "t.id = $1",
    "true",
    COUNTED_BY_NOW,
  )},
  ${ROLLUPS.map((rollup) => {
    const { table, keys, measures, aggregate } = rollup;
    const negated = [...keys, ...measures.map((measure) => `-${measure} as ${measure}`)];
    const less = `select ${negated.join(", ")} from (${aggregate}) counted`;
    return `${table}_less as (${upsert(rollup, less)} returning *)`;
  }).join(",\n  ")}
  select (select count(*)::int from voided) as voided, jsonb_build_object(${ROLLUPS.toReversed()
    .map((rollup) => `'${rollup.table}', ${selectEmpty(rollup, `${rollup.table}_less`)}`)
    .join(", ")}) as emptied`;

/** For an event that the rollups have counted. False when another call was first. */
export async function takeOut(
  tx: Transaction,
  tenantId: string,
  { id, ts }: EventKey,
  voidedAt: string,
): Promise<boolean> {
  const [row] = await tx.unsafe<{ voided: number; emptied: Record<string, EmptyRow[]> }[]>(TAKE_OUT, [
    tenantId,
    ts,
    id,
    voidedAt,
  ]);
  for (const rollup of ROLLUPS) await dropEmptyRows(tx, tenantId, rollup, row?.emptied[rollup.table] ?? []);
  return (row?.voided ?? 0) > 0;
}

/**
 * A batch of no events over a range of times: whoever claims it deletes the tags of answers about
 * that range. So if a process dies between a commit and its tags, the sweeper deletes them.
 */
export async function insertChange(
  tx: Transaction,
  { tenantId, batchId, minMs, maxMs }: LedgerRow,
  at: string,
): Promise<void> {
  await tx`
    insert into event_batches (tenant_id, batch_id, received_at, received, stored, duplicates, rejected, min_ts, max_ts)
    values (${tenantId}, ${batchId}, ${at}, 0, 0, 0, 0, to_timestamp(${minMs}::float8 / 1000),
      to_timestamp(${maxMs}::float8 / 1000))`;
}
