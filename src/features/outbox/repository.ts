import {
  DOMAIN_CONSUMERS,
  type DomainConsumer,
  type DomainEvent,
  type Topic,
} from "../../core/domain-events.ts";
import { newId } from "../../core/ids.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { pruneTable, TENANT_AND_ID } from "../../db/prune.ts";
import type { Transaction } from "../../db/transaction.ts";

/**
 * G7: a domain event is a row written in the transaction of its change. The relay announces it
 * until every consumer named in `undone` has removed itself, in the statement of its effect.
 */
export interface EventRef {
  tenantId: string;
  id: string;
}

/**
 * Call it in the transaction of the change, after that has locked the row it changes. The events
 * get their place in the order (`sequence`) here, and those of one subject must get it one after
 * the other.
 */
export async function insertDomainEvents(
  tx: Transaction,
  tenantId: string,
  events: readonly DomainEvent[],
): Promise<void> {
  if (events.length === 0) return;
  await tx`${insertFrom(tx, tenantId, tx`(select * from ${listOf(tx, events)} order by place) source`)}`;
}

/**
 * The same for a write that is one statement: an insert from `source`, a FROM item with the columns
 * `id uuid, topic, subject_id, seller_id, payload jsonb, consumers text[]`. For a CTE of that
 * statement.
 */
export function insertFrom(sql: Sql | Transaction, tenantId: string, source: Fragment): Fragment {
  return sql`insert into outbox (tenant_id, id, topic, subject_id, seller_id, payload, undone, created_at, announce_at)
    select ${tenantId}::uuid, source.id, source.topic, source.subject_id, source.seller_id, source.payload,
      source.consumers, now(), date_trunc('milliseconds', now()) from ${source}`;
}

/**
 * Events as a FROM item `e`, with the columns that `insertFrom` wants and their `place` in the
 * list. They have no time: the clock of a process may be ahead, and the relay would wait for it.
 */
export function listOf(tx: Transaction, events: readonly DomainEvent[]): Fragment {
  const column = (key: "topic" | "subjectId" | "sellerId") =>
    tx.array(events.map((event) => event[key]) as string[]);
  const ids = tx.array(events.map(() => newId()));
  const payloads = tx.array(events.map((event) => JSON.stringify(event.payload)));
  const consumers = tx.array(events.map((event) => `{${event.consumers ?? DOMAIN_CONSUMERS}}`));
  return tx`(
    select l.id, l.topic, l.subject_id, l.seller_id, l.payload::jsonb as payload, l.consumers::text[] as consumers, l.place
    from unnest(${ids}::uuid[], ${column("topic")}::text[], ${column("subjectId")}::text[],
      ${column("sellerId")}::text[], ${payloads}::text[], ${consumers}::text[]) with ordinality
      as l(id, topic, subject_id, seller_id, payload, consumers, place)) e`;
}

/**
 * Claims events for one consumer: an update that returns those which it had not handled yet. Use it
 * as the first CTE of the statement that has the effect, so that a redelivered event has none. No
 * index of `undone` rows fits the text: a planner that expects few such rows would read all of them
 * for each event.
 */
export function claimFor(sql: Sql, consumer: DomainConsumer, refs: readonly EventRef[]): Fragment {
  // Plain arrays, which Postgres types itself: sql.array sends garbage in the first query of a
  // pool, before postgres.js has learned the array types.
  const tenantIds = refs.map((ref) => ref.tenantId);
  const ids = refs.map((ref) => ref.id);
  return sql`update outbox o set undone = array_remove(o.undone, ${consumer})
    from (select * from unnest(${tenantIds}::uuid[], ${ids}::uuid[]) as w(tenant_id, id) order by 1, 2) wanted
    where o.tenant_id = wanted.tenant_id and o.id = wanted.id and array_position(o.undone, ${consumer}) is not null
    returning o.tenant_id, o.id, o.topic, o.subject_id, o.seller_id, o.payload, o.created_at, o.sequence`;
}

/** An event, and what it is about. */
export interface ToldEvent extends EventRef {
  topic: Topic;
  subjectId: string;
}

/** An unanswered announcement is repeated after this long, then after twice as long each time. */
const FIRST_RETRY_SECONDS = 10;
/**
 * So a consumer that lags for hours costs a message a row every ten minutes, and soon finds its
 * backlog when it is back.
 */
const MAX_RETRY_SECONDS = 600;
const MAX_DOUBLINGS = 6;

/**
 * Takes events that are due to be announced, oldest first, and makes them due again later. So a
 * relay that dies before its XADD, or a lost stream, costs that delay. Of two relays that meet, the
 * second waits and finds the rows claimed. Locked in key order, as by the consumers, and by key,
 * see claimFor.
 */
export async function claimAnnouncements(sql: Sql, limit: number): Promise<ToldEvent[]> {
  return sql<ToldEvent[]>`
    update outbox o set announcements = o.announcements + 1,
      announce_at = now() + least(${MAX_RETRY_SECONDS},
        ${FIRST_RETRY_SECONDS} * power(2, least(o.announcements, ${MAX_DOUBLINGS}))) * interval '1 second'
    from (select tenant_id, id from (
        select tenant_id, id from outbox where announce_at <= now() and undone <> '{}' order by announce_at limit ${limit}
      ) oldest order by tenant_id, id) due
    where o.tenant_id = due.tenant_id and o.id = due.id and o.announce_at <= now() and cardinality(o.undone) > 0
    returning o.tenant_id as "tenantId", o.id, o.topic, o.subject_id as "subjectId"`;
}

/**
 * Undoes a claim whose announcement failed, or an outage of Redis would be followed by waits of
 * minutes.
 */
export async function releaseAnnouncements(sql: Sql, refs: readonly EventRef[]): Promise<void> {
  const tenantIds = refs.map((ref) => ref.tenantId);
  const ids = refs.map((ref) => ref.id);
  await sql`update outbox o set announcements = greatest(o.announcements - 1, 0),
      announce_at = date_trunc('milliseconds', now())
    from (select * from unnest(${tenantIds}::uuid[], ${ids}::uuid[]) as w(tenant_id, id) order by 1, 2) failed
    where o.tenant_id = failed.tenant_id and o.id = failed.id and cardinality(o.undone) > 0`;
}

/**
 * Deletes events that every consumer has handled, an hour after they happened; returns how many,
 * `limit` at the most.
 */
export async function pruneOutbox(sql: Sql, limit: number): Promise<number> {
  const over = sql`undone = '{}' and created_at < now() - interval '1 hour'`;
  return pruneTable(sql, { table: "outbox", key: TENANT_AND_ID, over, orderBy: "created_at" }, limit);
}

export interface OutboxBacklog {
  /**
   * Events that some consumer has not handled yet; COUNTED_AT_MOST when there are that many or
   * more.
   */
  events: number;
  oldestSeconds: number;
}

const COUNTED_AT_MOST = 100_000;

export async function readOutboxBacklog(sql: Sql): Promise<OutboxBacklog> {
  const [row] = await sql<OutboxBacklog[]>`
    select count(*)::float8 as events,
      coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "oldestSeconds"
    from (select created_at from outbox where undone <> '{}' order by announce_at limit ${COUNTED_AT_MOST}) undone`;
  return row ?? { events: 0, oldestSeconds: 0 };
}
