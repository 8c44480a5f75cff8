import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { ParsedEvent } from "./parse-event.ts";

/** Events of one tenant that are committed together: one ledger row, the unit of exactly-once. */
export interface Batch {
  tenantId: string;
  batchId: string;
  receivedAtMs: number;
  /**
   * How many events the request carried, and how many were refused: `received - rejected` are
   * stored or duplicates.
   */
  received: number;
  rejected: number;
  events: ParsedEvent[];
}

/** Deduplication keys of live events live a day longer than the seven days that are promised. */
const KEY_DAYS = 8;

/**
 * G1: dedupe keys, events and ledger rows of any number of tenants in one statement. Returns the
 * ids of events that were not stored because their messageId is known. Keys are inserted in their
 * order, or two overlapping retries would deadlock; of two equal ones the first is stored.
 * `on conflict do nothing` waits for a concurrent statement with the same key, so exactly one
 * stores the event. Columns travel as array literals, so the statement's text is always the same
 * and prepared once.
 */
export async function insertBatches(
  sql: Sql | Transaction,
  batches: readonly Batch[],
  keepKeys = false,
): Promise<Set<string>> {
  const columns = toColumns(batches);
  const expiry = keepKeys ? null : new Date(Date.now() + KEY_DAYS * 86_400_000).toISOString();
  const duplicates = await sql<{ id: string }[]>`
    with batch as (
      select * from unnest(
        ${columns.tenantId}::uuid[], ${columns.batchId}::uuid[], ${columns.receivedAt}::float8[],
        ${columns.received}::int[], ${columns.rejected}::int[]
      ) with ordinality as b(tenant_id, batch_id, received_ms, received, rejected, n)
    ), input as materialized (
      select (${columns.tenantId}::uuid[])[e.n] as tenant_id, (${columns.batchId}::uuid[])[e.n] as batch_id,
        to_timestamp((${columns.receivedAt}::float8[])[e.n] / 1000) as received_at,
        to_timestamp(e.ms / 1000) as ts, e.*
      from unnest(
        ${columns.n}::int[], ${columns.id}::uuid[], ${columns.ms}::float8[], ${columns.type}::text[],
        ${columns.productId}::text[], ${columns.userId}::text[], ${columns.anonymousId}::text[],
        ${columns.sessionId}::text[], ${columns.messageId}::text[], ${columns.messageKey}::text[], ${columns.quantity}::int[],
        ${columns.unitPrice}::numeric[], ${columns.amount}::numeric[], ${columns.properties}::text[], ${columns.context}::text[]
      ) with ordinality as e(n, id, ms, type, product_id, user_id, anonymous_id, session_id, message_id, message_key,
        quantity, unit_price, amount, properties, context, position)
    ), fresh_key as (
      insert into event_keys (tenant_id, message_id, event_id, expires_at)
      select tenant_id, coalesce(message_key, message_id), id, ${expiry}::timestamptz from input
      where message_id is not null order by tenant_id, coalesce(message_key, message_id), position
      on conflict (tenant_id, message_id) do nothing
      returning tenant_id, event_id
    ), duplicate as materialized (
      select i.n, i.id from input i
      where i.message_id is not null
        and not exists (select from fresh_key k where k.tenant_id = i.tenant_id and k.event_id = i.id)
    ), stored as (
      insert into events (tenant_id, ts, id, batch_id, received_at, type, product_id, user_id, anonymous_id, session_id,
        message_id, quantity, unit_price, amount, properties, context)
      select tenant_id, ts, id, batch_id, received_at, type, product_id, user_id, anonymous_id, session_id,
        message_id, quantity, unit_price, amount, properties::jsonb, context::jsonb
      from input where id not in (select id from duplicate)
    ), summary as (
      select i.n, count(*) filter (where d.id is null) as stored, count(d.id) as duplicates,
        min(i.ts) filter (where d.id is null) as min_ts, max(i.ts) filter (where d.id is null) as max_ts
      from input i left join duplicate d on d.id = i.id group by i.n
    ), ledger as (
      insert into event_batches (tenant_id, batch_id, received_at, received, stored, duplicates, rejected, min_ts, max_ts)
      select b.tenant_id, b.batch_id, to_timestamp(b.received_ms / 1000), b.received, coalesce(s.stored, 0),
        coalesce(s.duplicates, 0), b.rejected, s.min_ts, s.max_ts
      from batch b left join summary s on s.n = b.n
    )
    select id from duplicate`;
  return new Set(duplicates.map((row) => row.id));
}

/** The key by which a message is known; "" for an event that brought no messageId. */
export function keyOf({ messageKey, messageId }: Pick<ParsedEvent, "messageKey" | "messageId">): string {
  return messageKey ?? messageId ?? "";
}

/**
 * The ids under which messages were stored first, by key. Call after insertBatches: its snapshot
 * can't show them.
 */
export async function findEventIds(
  sql: Sql,
  tenantId: string,
  keys: readonly string[],
): Promise<Map<string, string>> {
  const rows = await sql<{ message_id: string; event_id: string }[]>`
    select message_id, event_id from event_keys
    where tenant_id = ${tenantId} and message_id = any(${[...keys]}::text[])`;
  return new Map(rows.map((row) => [row.message_id, row.event_id]));
}

/**
 * Keys of live events that an import has met again: from now on they are kept for ever. The
 * condition is not `is not null`, so that the planner finds the keys by their primary key and not
 * by the index on expiry: importing 540,000 rows again took 35 s with that index instead of 9.
 */
export async function keepEventKeys(sql: Sql, tenantId: string, keys: readonly string[]): Promise<void> {
  await sql`
    update event_keys set expires_at = null
    where tenant_id = ${tenantId} and message_id = any(${[...keys]}::text[])
      and coalesce(expires_at, 'infinity') < 'infinity'`;
}

function toColumns(batches: readonly Batch[]) {
  const events = batches.flatMap((batch, index) => batch.events.map((event) => ({ event, n: index + 1 })));
  const plain = <T>(rows: readonly T[], value: (row: T) => string | number | null) =>
    `{${rows.map((row) => value(row) ?? "null").join()}}`;
  const text = (value: (event: ParsedEvent) => string | null) => {
    const parts = events.map(({ event }) => quoted(value(event)));
    return `{${parts.join()}}`;
  };
  return {
    tenantId: plain(batches, (batch) => batch.tenantId),
    batchId: plain(batches, (batch) => batch.batchId),
    receivedAt: plain(batches, (batch) => batch.receivedAtMs),
    received: plain(batches, (batch) => batch.received),
    rejected: plain(batches, (batch) => batch.rejected),
    n: plain(events, ({ n }) => n),
    id: plain(events, ({ event }) => event.id),
    ms: plain(events, ({ event }) => event.tsMs),
    quantity: plain(events, ({ event }) => event.quantity),
    unitPrice: plain(events, ({ event }) => event.unitPrice),
    amount: plain(events, ({ event }) => event.amount),
    type: text((event) => event.type),
    productId: text((event) => event.productId),
    userId: text((event) => event.userId),
    anonymousId: text((event) => event.anonymousId),
    sessionId: text((event) => event.sessionId),
    messageId: text((event) => event.messageId),
    messageKey: text((event) => event.messageKey),
    properties: text((event) => event.properties),
    context: text((event) => event.context),
  };
}

/** One element of a Postgres array literal. */
function quoted(value: string | null): string {
  if (value === null) return "null";
  const escaped = /["\\]/.test(value) ? value.replaceAll(/["\\]/g, "\\$&") : value;
  return `"${escaped}"`;
}
