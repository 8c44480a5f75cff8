import { timeOfId } from "../../core/ids.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { type PageSize, selectWithinBytes } from "../../db/pages.ts";
import type { StoredEvent } from "./schema.ts";

export interface EventFilter {
  type?: string;
  productId?: string;
  userId?: string;
  sessionId?: string;
  from?: string;
  to?: string;
  /** Keyset: only events older than this one. */
  before?: { timestamp: string; id: string };
}

/** Newest first. */
export async function selectEvents(
  sql: Sql,
  tenantId: string,
  filter: EventFilter & { limit: number },
): Promise<StoredEvent[]> {
  const rows = await sql<EventRow[]>`${eventsOf(sql, tenantId, filter)}`;
  return rows.map(toStoredEvent);
}

/** The same, as many as a page holds. */
export async function selectEventPage(
  sql: Sql,
  tenantId: string,
  filter: EventFilter,
  { rows, bytes }: PageSize,
): Promise<StoredEvent[]> {
  const query = eventsOf(sql, tenantId, { ...filter, limit: rows });
  const orderBy = sql`"timestamp" desc, id desc`;
  const sizeOf = sql`octet_length(concat(properties, context))`;
  const found = await selectWithinBytes<EventRow>(sql, { query, orderBy, sizeOf, bytes });
  return found.map(toStoredEvent);
}

/** A user filter also names the expression of the user_key index, which is what makes it fast. */
function eventsOf(sql: Sql, tenantId: string, filter: EventFilter & { limit: number }): Fragment {
  const { type, productId, userId, sessionId, from, to, before, limit } = filter;
  return sql`
    select ${eventColumns(sql)} from events
    where tenant_id = ${tenantId}
      ${type === undefined ? sql`` : sql`and type = ${type}`}
      ${productId === undefined ? sql`` : sql`and product_id = ${productId}`}
      ${userId === undefined ? sql`` : sql`and coalesce(user_id, anonymous_id, session_id) = ${userId} and user_id = ${userId}`}
      ${sessionId === undefined ? sql`` : sql`and session_id = ${sessionId}`}
      ${from === undefined ? sql`` : sql`and ts >= ${from}`}
      ${to === undefined ? sql`` : sql`and ts < ${to}`}
      ${before === undefined ? sql`` : sql`and ts <= ${before.timestamp} and (ts, id) < (${before.timestamp}::timestamptz, ${before.id}::uuid)`}
    order by ts desc, id desc limit ${limit}`;
}

/** Null when the tenant has no such event. The id carries the event's time, so only one partition is looked at. */
export async function selectEvent(sql: Sql, tenantId: string, id: string): Promise<StoredEvent | null> {
  const ts = new Date(timeOfId(id)).toISOString();
  const rows = await sql<EventRow[]>`
    select ${eventColumns(sql)} from events where tenant_id = ${tenantId} and ts = ${ts} and id = ${id}`;
  return rows[0] ? toStoredEvent(rows[0]) : null;
}

interface EventRow extends Omit<StoredEvent, "timestamp" | "receivedAt"> {
  timestamp: Date;
  receivedAt: Date;
}

function eventColumns(sql: Sql) {
  return sql`id, message_id as "messageId", type, product_id as "productId", user_id as "userId",
    anonymous_id as "anonymousId", session_id as "sessionId", ts as timestamp, received_at as "receivedAt",
    properties, context`;
}

function toStoredEvent(row: EventRow): StoredEvent {
  return { ...row, timestamp: row.timestamp.toISOString(), receivedAt: row.receivedAt.toISOString() };
}
