import { DOMAIN_CONSUMERS, type DomainConsumer } from "../../core/domain-events.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { pruneTable } from "../../db/prune.ts";
import type { EventRef, ToldEvent } from "./repository.ts";

/**
 * What waits for a consumer, in the order in which it is to be handled, and what could not be
 * handled.
 */

export interface WaitingEvent extends ToldEvent {
  /** False where a consumer came before the relay. */
  announced: boolean;
}

/**
 * The first `each` events of each tenant that wait for a consumer, in their order. If another one
 * has claimed them since, the claim finds them done. Leaves out what waits behind an event that
 * can't be handled. The consumer's name is part of the text, or the planner could not use its
 * index, which has this order.
 */
export async function selectWaiting(
  sql: Sql,
  consumer: DomainConsumer,
  tenantIds: readonly string[],
  each: number,
): Promise<WaitingEvent[]> {
  const name = nameOf(sql, consumer);
  return sql<WaitingEvent[]>`
    select waiting.tenant_id as "tenantId", waiting.id, waiting.topic, waiting.subject_id as "subjectId",
      waiting.announcements > 0 as announced
    from unnest(${[...tenantIds]}::uuid[]) as told(tenant_id)
    cross join lateral (
      select o.tenant_id, o.id, o.topic, o.subject_id, o.announcements, o.sequence from outbox o
      where o.tenant_id = told.tenant_id and ${name} = any(o.undone) and not exists (
        select from outbox_failures f
        where f.tenant_id = o.tenant_id and f.consumer = ${name} and f.subject_id = o.subject_id and f.died_at is null
      )
      order by o.sequence nulls first, o.id limit ${each}
    ) waiting
    order by waiting.tenant_id, waiting.sequence nulls first, waiting.id`;
}

export interface FailedEvent extends EventRef {
  subjectId: string;
  attempts: number;
}

/** Events of these tenants that could not be handled and are due for their next try. */
export async function selectRetries(
  sql: Sql,
  consumer: DomainConsumer,
  tenantIds: readonly string[],
  limit: number,
): Promise<FailedEvent[]> {
  return sql<FailedEvent[]>`
    select f.tenant_id as "tenantId", f.event_id as id, f.subject_id as "subjectId", f.attempts from outbox_failures f
    where f.tenant_id = any(${[...tenantIds]}::uuid[]) and f.consumer = ${consumer} and f.died_at is null
      and f.retry_at <= now()
    order by f.retry_at limit ${limit}`;
}

/**
 * Counts a failed try, unless somebody else has counted one since `attempts`, and has the event
 * announced again when its next try is due.
 */
export async function recordFailure(
  sql: Sql,
  consumer: DomainConsumer,
  { tenantId, id, subjectId, attempts }: FailedEvent,
  { error, retryInSeconds }: { error: string; retryInSeconds: number },
): Promise<void> {
  await sql`
    with failed as (
      insert into outbox_failures as f (tenant_id, consumer, event_id, subject_id, attempts, retry_at, error)
      values (${tenantId}, ${consumer}, ${id}, ${subjectId}, 1, now() + ${retryInSeconds} * interval '1 second', ${error})
      on conflict (tenant_id, consumer, event_id) do update set attempts = f.attempts + 1, retry_at = excluded.retry_at,
        error = excluded.error
      where f.attempts = ${attempts} and f.died_at is null
      returning f.tenant_id, f.event_id, f.retry_at
    )
    update outbox o set announce_at = failed.retry_at from failed
    where o.tenant_id = ${tenantId} and o.tenant_id = failed.tenant_id and o.id = failed.event_id`;
}

/** The event was handled after all, so what waits behind it continues. */
export async function deleteFailure(sql: Sql, consumer: DomainConsumer, ref: EventRef): Promise<void> {
  await sql`
    delete from outbox_failures
    where tenant_id = ${ref.tenantId} and consumer = ${consumer} and event_id = ${ref.id} and died_at is null`;
}

/**
 * Gives an event up for a consumer, and keeps it with its last error. False when it was handled
 * meanwhile.
 */
export async function buryEvent(
  sql: Sql,
  consumer: DomainConsumer,
  { tenantId, id }: EventRef,
  error: string,
): Promise<boolean> {
  const rows = await sql`
    with given_up as (
      update outbox o set undone = array_remove(o.undone, ${consumer})
      where o.tenant_id = ${tenantId} and o.id = ${id} and ${consumer} = any(o.undone)
      returning o.tenant_id, o.id, o.topic, o.subject_id, o.seller_id, o.payload, o.created_at
    )
    update outbox_failures f set attempts = f.attempts + 1, error = ${error}, died_at = now(), event = to_jsonb(given_up)
    from given_up
    where f.tenant_id = ${tenantId} and f.tenant_id = given_up.tenant_id and f.consumer = ${consumer}
      and f.event_id = given_up.id
    returning f.event_id`;
  return rows.length > 0;
}

const FAILURE_KEY = { tenant_id: "uuid", consumer: "text", event_id: "uuid" } as const;

/** Deletes what was given up so many days ago, at most `limit`; returns how many. */
export async function pruneFailures(sql: Sql, keepDays: number, limit: number): Promise<number> {
  const over = sql`died_at < now() - ${keepDays} * interval '1 day'`;
  return pruneTable(sql, { table: "outbox_failures", key: FAILURE_KEY, over, orderBy: "died_at" }, limit);
}

function nameOf(sql: Sql, consumer: DomainConsumer): Fragment {
  if (!DOMAIN_CONSUMERS.includes(consumer)) throw new Error(`${consumer} is no consumer of domain events`);
  return sql.unsafe(`'${consumer}'`);
}
