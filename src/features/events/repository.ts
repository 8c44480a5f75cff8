import { isUuid, timeOfId } from "../../core/ids.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { type PageSize, selectWithinBytes } from "../../db/pages.ts";
import { EARLIEST_MS } from "./parse-event.ts";
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

/** Days that a page is searched in first, and next; after that, all the time before. */
const REACH_DAYS = [31, 366, Number.POSITIVE_INFINITY];
const DAY_MS = 86_400_000;

/**
 * Newest first. Both ends of the time are always given, so that Postgres leaves the other
 * partitions alone.
 */
export async function selectEvents(
  sql: Sql,
  tenantId: string,
  filter: EventFilter & { limit: number },
): Promise<StoredEvent[]> {
  const found: StoredEvent[] = [];
  for (const span of spansOf(filter)) {
    const limit = filter.limit - found.length;
    const rows = await sql<EventRow[]>`${eventsWithin(sql, tenantId, { ...filter, limit }, span)}`;
    found.push(...rows.map(toStoredEvent));
    if (found.length >= filter.limit) break;
  }
  return found;
}

/** The same, as many as a page holds; none when there are no more. */
export async function selectEventPage(
  sql: Sql,
  tenantId: string,
  filter: EventFilter,
  { rows, bytes }: PageSize,
): Promise<StoredEvent[]> {
  const orderBy = sql`"timestamp" desc, id desc`;
  const sizeOf = sql`octet_length(concat(properties, context))`;
  for (const span of spansOf(filter)) {
    const query = eventsWithin(sql, tenantId, { ...filter, limit: rows }, span);
    const found = await selectWithinBytes<EventRow>(sql, { query, orderBy, sizeOf, bytes });
    if (found.length > 0) return found.map(toStoredEvent);
  }
  return [];
}

interface Span {
  /** Included. */
  from: string;
  /** Not included. */
  until: string;
}

/**
 * The time of the filter, the newest part first. No event is from tomorrow or from before
 * EARLIEST_MS.
 */
function* spansOf({ from, to, before }: EventFilter): Generator<Span> {
  const oldestMs = Math.max(from === undefined ? EARLIEST_MS : Date.parse(from), EARLIEST_MS);
  // Postgres compares the parts of a millisecond that a client gives.
  const ends = [to, before?.timestamp].flatMap((end) => (end === undefined ? [] : Date.parse(end) + 1));
  const newestMs = Math.min(Date.now() + DAY_MS, ...ends);
  let untilMs = newestMs;
  for (const days of REACH_DAYS) {
    const fromMs = Math.max(newestMs - days * DAY_MS, oldestMs);
    if (fromMs >= untilMs) return;
    yield { from: new Date(fromMs).toISOString(), until: new Date(untilMs).toISOString() };
    untilMs = fromMs;
  }
}

/** A user filter also names the expression of the user_key index, which is what makes it fast. */
function eventsWithin(
  sql: Sql,
  tenantId: string,
  filter: EventFilter & { limit: number },
  span: Span,
): Fragment {
  const { type, productId, userId, sessionId, from, to, before, limit } = filter;
  return sql`
    select ${eventColumns(sql)} from events
    where tenant_id = ${tenantId} and ts >= ${span.from} and ts < ${span.until}
      ${type === undefined ? sql`` : sql`and type = ${type}`}
      ${productId === undefined ? sql`` : sql`and product_id = ${productId}`}
      ${userId === undefined ? sql`` : sql`and coalesce(user_id, anonymous_id, session_id) = ${userId} and user_id = ${userId}`}
      ${sessionId === undefined ? sql`` : sql`and session_id = ${sessionId}`}
      ${from === undefined ? sql`` : sql`and ts >= ${from}`}
      ${to === undefined ? sql`` : sql`and ts < ${to}`}
      ${before === undefined ? sql`` : sql`and ts <= ${before.timestamp} and (ts, id) < (${before.timestamp}::timestamptz, ${before.id}::uuid)`}
    order by ts desc, id desc limit ${limit}`;
}

/** When an event of this id happened, which the id says; null where no event can have it. */
export function timeOfEvent(id: string): string | null {
  const timeMs = isUuid(id) ? timeOfId(id) : Number.NaN;
  return timeMs >= EARLIEST_MS && timeMs <= Date.now() + DAY_MS ? new Date(timeMs).toISOString() : null;
}

/** Null when the tenant has no such event. The time lets Postgres read one partition only. */
export async function selectEvent(
  sql: Sql,
  tenantId: string,
  id: string,
  ts: string,
): Promise<StoredEvent | null> {
  const rows = await sql<EventRow[]>`
    select ${eventColumns(sql)} from events where tenant_id = ${tenantId} and ts = ${ts} and id = ${id}`;
  return rows[0] ? toStoredEvent(rows[0]) : null;
}

interface EventRow extends Omit<StoredEvent, "timestamp" | "receivedAt" | "voidedAt"> {
  timestamp: Date;
  receivedAt: Date;
  voidedAt: Date | null;
}

function eventColumns(sql: Sql) {
  return sql`id, message_id as "messageId", type, product_id as "productId", user_id as "userId",
    anonymous_id as "anonymousId", session_id as "sessionId", ts as timestamp, received_at as "receivedAt",
    properties, context, voided_at as "voidedAt"`;
}

function toStoredEvent(row: EventRow): StoredEvent {
  return {
    ...row,
    timestamp: row.timestamp.toISOString(),
    receivedAt: row.receivedAt.toISOString(),
    voidedAt: row.voidedAt?.toISOString() ?? null,
  };
}
