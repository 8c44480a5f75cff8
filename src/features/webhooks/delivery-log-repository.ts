import type { JSONValue } from "postgres";
import type { Fragment, Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { DELIVERY_STATUSES } from "./schema.ts";

/**
 * Deliveries as people see them: one message to one endpoint, with the outcome of the last attempt.
 */
export interface DeliveryRow {
  id: string;
  webhookId: string;
  messageId: string;
  topic: string;
  status: (typeof DELIVERY_STATUSES)[number];
  attempts: number;
  nextAttemptAt: Date | null;
  lastStatus: number | null;
  lastError: string | null;
  durationMs: number | null;
  createdAt: Date;
  finishedAt: Date | null;
}

const columns = (
  sql: Sql | Transaction,
) => sql`id, endpoint_id as "webhookId", event_id as "messageId", topic, status,
  attempts, next_attempt_at as "nextAttemptAt", last_status as "lastStatus", last_error as "lastError",
  duration_ms as "durationMs", created_at as "createdAt", finished_at as "finishedAt"`;

/** Newest first. `before` is the last id of the page before. */
export async function selectDeliveries(
  sql: Sql,
  tenantId: string,
  endpointId: string,
  { status, before, limit }: { status: DeliveryRow["status"] | null; before: string | null; limit: number },
): Promise<DeliveryRow[]> {
  return sql<DeliveryRow[]>`
    select ${columns(sql)} from webhook_deliveries
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
      ${status === null ? sql`` : sql`and status = ${status}`} ${before === null ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`;
}

export interface StoredMessage {
  status: DeliveryRow["status"];
  eventId: string;
  payload: Envelope;
}

/** What a delivery carries; null when the endpoint has no such delivery. */
export async function findMessage(
  tx: Transaction,
  tenantId: string,
  endpointId: string,
  id: string,
): Promise<StoredMessage | null> {
  const [row] = await tx<StoredMessage[]>`
    select status, event_id as "eventId", payload from webhook_deliveries
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and id = ${id}`;
  return row ?? null;
}

/** The body of a message. */
export interface Envelope {
  type: string;
  timestamp: string;
  data: object;
}

/** now(), rounded to the column's milliseconds, could be half a millisecond ahead. */
export function dueNow(sql: Sql | Transaction): Fragment {
  return sql`date_trunc('milliseconds', now())`;
}

/** A delivery that is due now. */
export async function insertDelivery(
  tx: Transaction,
  tenantId: string,
  { id, endpointId, eventId }: { id: string; endpointId: string; eventId: string },
  envelope: Envelope,
): Promise<DeliveryRow> {
  const [row] = await tx<DeliveryRow[]>`
    insert into webhook_deliveries (tenant_id, id, endpoint_id, event_id, topic, payload, status, next_attempt_at, created_at)
    values (${tenantId}, ${id}, ${endpointId}, ${eventId}, ${envelope.type}, ${tx.json(envelope as unknown as JSONValue)},
      'pending', ${dueNow(tx)}, now())
    returning ${columns(tx)}`;
  if (!row) throw new Error("the delivery was not stored");
  return row;
}
