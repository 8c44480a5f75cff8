import { DOMAIN_CONSUMERS, type DomainConsumer, type DomainEvent } from "../../core/domain-events.ts";
import { newId } from "../../core/ids.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";

/**
 * G7: a domain event is a row written in the transaction of what it tells, announced by the relay until every consumer
 * named in `undone` has taken itself out, which it does in the statement of its effect.
 */
export interface EventRef {
  tenantId: string;
  id: string;
}

/** Call it in the transaction of the change. */
export async function insertDomainEvents(
  tx: Transaction,
  tenantId: string,
  events: readonly DomainEvent[],
): Promise<void> {
  if (events.length === 0) return;
  const now = new Date().toISOString();
  const rows = events.map((event) => ({
    tenant_id: tenantId,
    id: newId(),
    topic: event.topic,
    subject_id: event.subjectId,
    seller_id: event.sellerId,
    payload: tx.json(event.payload as never),
    undone: tx.array([...(event.consumers ?? DOMAIN_CONSUMERS)]),
    created_at: now,
    announce_at: now,
  }));
  await tx`insert into outbox ${tx(rows)}`;
}

/**
 * The same for a write that is one statement: an insert from `source`, a FROM item with the columns `id uuid, topic,
 * subject_id, seller_id, payload jsonb`. For a CTE of that statement.
 */
export function insertFrom(
  sql: Sql | Transaction,
  tenantId: string,
  source: Fragment,
  consumers: readonly DomainConsumer[] = DOMAIN_CONSUMERS,
): Fragment {
  return sql`insert into outbox (tenant_id, id, topic, subject_id, seller_id, payload, undone, created_at, announce_at)
    select ${tenantId}::uuid, source.id, source.topic, source.subject_id, source.seller_id, source.payload,
      ${sql.array([...consumers])}::text[], now(), now() from ${source}`;
}

/**
 * Claims events for one consumer: an update that returns those which it had not handled yet. Use it as the first CTE of
 * the statement that has the effect; then a redelivered event has none.
 */
export function claimFor(sql: Sql, consumer: DomainConsumer, refs: readonly EventRef[]): Fragment {
  // Plain arrays, for Postgres to type: sql.array sends garbage when it is in the first query of a pool, which opens a
  // connection and is built before postgres.js has learned the array types there.
  const tenantIds = refs.map((ref) => ref.tenantId);
  const ids = refs.map((ref) => ref.id);
  return sql`update outbox o set undone = array_remove(o.undone, ${consumer})
    from (select * from unnest(${tenantIds}::uuid[], ${ids}::uuid[]) as w(tenant_id, id) order by 1, 2) wanted
    where o.tenant_id = wanted.tenant_id and o.id = wanted.id and ${consumer} = any(o.undone)
    returning o.tenant_id, o.id, o.topic, o.subject_id, o.seller_id, o.payload, o.created_at`;
}
