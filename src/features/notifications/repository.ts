import type { Topic } from "../../core/domain-events.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { pruneTable, TENANT_AND_ID } from "../../db/prune.ts";
import { claimFor, type EventRef } from "../outbox/index.ts";

export interface NotificationRow {
  id: string;
  topic: Topic;
  subjectId: string;
  sellerId: string | null;
  data: Record<string, unknown>;
  createdAt: Date;
}

export interface PlacedNotification extends NotificationRow {
  tenantId: string;
  position: number;
}

/**
 * Claims events and stores them as notifications, in their order. The row of notification_feeds is
 * locked until the commit, so a tenant's positions become visible in their order and without holes.
 * Tenants in key order: two workers that meet wait, and don't deadlock.
 */
export async function storeNotifications(sql: Sql, refs: readonly EventRef[]): Promise<PlacedNotification[]> {
  return sql<PlacedNotification[]>`
    with claimed as (${claimFor(sql, "notifications", refs)}),
    moved as (
      insert into notification_feeds as feed (tenant_id, position)
      select tenant_id, count(*) from claimed group by tenant_id order by tenant_id
      on conflict (tenant_id) do update set position = feed.position + excluded.position
      returning feed.tenant_id, feed.position),
    placed as (
      select claimed.*, moved.position + 1
        - row_number() over (partition by claimed.tenant_id order by claimed.sequence desc nulls last, claimed.id desc)
        as position
      from claimed join moved on moved.tenant_id = claimed.tenant_id)
    insert into notifications as n
      (tenant_id, id, topic, subject_id, seller_id, payload, created_at, stored_at, position)
    select tenant_id, id, topic, subject_id, seller_id, payload, created_at, now(), position from placed
    on conflict (tenant_id, id) do nothing
    returning n.tenant_id as "tenantId", ${columns(sql)}, n.position::float8 as position`;
}

function columns(sql: Sql) {
  return sql`n.id, n.topic, n.subject_id as "subjectId", n.seller_id as "sellerId", n.payload as data,
    n.created_at as "createdAt"`;
}

export interface NotificationVisibility {
  /** Only this seller's; null: everyone's. */
  sellerId: string | null;
  /** Null: all. */
  topics: readonly Topic[] | null;
}

export interface NotificationFilter extends NotificationVisibility {
  unread: boolean;
  /** Keyset: only those at a smaller position. */
  before?: number;
  limit: number;
}

type ListedNotification = NotificationRow & { readAt: Date | null; position: number };

/** The last one first. */
export async function selectNotifications(
  sql: Sql,
  tenantId: string,
  filter: NotificationFilter,
): Promise<ListedNotification[]> {
  const { sellerId, topics, unread, before, limit } = filter;
  if (topics !== null && sellerId === null) return selectByTopics(sql, tenantId, { ...filter, topics });
  return sql<ListedNotification[]>`
    select ${columns(sql)}, n.read_at as "readAt", n.position::float8 as position from notifications n
    where n.tenant_id = ${tenantId} ${seen(sql, filter)}
      ${unread ? sql`and n.read_at is null` : sql``}
      ${before === undefined ? sql`` : sql`and n.position < ${before}::bigint`}
    order by n.position desc limit ${limit}`;
}

/**
 * A page of each topic, by an index of that order: in the tenant's order, a rare topic would be
 * searched among all. Compared by range: with `topic =` the planner takes the tenant's order to be
 * as good.
 */
async function selectByTopics(
  sql: Sql,
  tenantId: string,
  { topics, unread, before, limit }: NotificationFilter & { topics: readonly Topic[] },
): Promise<ListedNotification[]> {
  return sql<ListedNotification[]>`
    select page.* from unnest(${[...topics]}::text[]) as wanted(topic)
    cross join lateral (
      select ${columns(sql)}, n.read_at as "readAt", n.position::float8 as position from notifications n
      where n.tenant_id = ${tenantId} and n.topic >= wanted.topic
        ${before === undefined ? sql`and n.topic <= wanted.topic` : sql`and (n.topic, n.position) < (wanted.topic, ${before}::bigint)`}
        ${unread ? sql`and n.read_at is null` : sql``}
      order by n.topic desc, n.position desc limit ${limit}
    ) page
    order by page.position desc limit ${limit}`;
}

function seen(sql: Sql, { sellerId, topics }: NotificationVisibility): Fragment {
  return sql`${sellerId === null ? sql`` : sql`and n.seller_id = ${sellerId}`}
    ${topics === null ? sql`` : sql`and n.topic = any(${[...topics]}::text[])`}`;
}

/** False when there is none that is visible. Read once stays read since then. */
export async function markRead(
  sql: Sql,
  tenantId: string,
  visibility: NotificationVisibility,
  id: string,
): Promise<boolean> {
  const rows = await sql`
    update notifications n set read_at = coalesce(n.read_at, now())
    where n.tenant_id = ${tenantId} and n.id = ${id} ${seen(sql, visibility)} returning n.id`;
  return rows.length > 0;
}

/**
 * Those after a position, in their order: at most `rows`, and no more once they have `bytes`. Read
 * one after the other: a window over a page of rows would detoast the payloads of all for the few
 * that fit.
 */
export async function selectAfter(
  sql: Sql,
  tenantId: string,
  position: number,
  { rows, bytes }: { rows: number; bytes: number },
): Promise<PlacedNotification[]> {
  return sql<PlacedNotification[]>`
    with recursive page (position, bytes, place) as (
      select ${position}::bigint, 0::bigint, 0
      union all
      select next.position, page.bytes + next.bytes, page.place + 1
      from page cross join lateral (
        select position, octet_length(payload::text) as bytes from notifications
        where tenant_id = ${tenantId} and position > page.position order by position limit 1
      ) next
      where page.bytes < ${bytes} and page.place < ${rows}
    )
    select n.tenant_id as "tenantId", ${columns(sql)}, n.position::float8 as position
    from page join notifications n on n.tenant_id = ${tenantId} and n.position = page.position
    where page.place > 0 order by n.position`;
}

/** The last position of each tenant that has had a notification. */
export async function selectPositions(sql: Sql, tenantIds: readonly string[]): Promise<Map<string, number>> {
  const rows = await sql<{ tenantId: string; position: number }[]>`
    select tenant_id as "tenantId", position::float8 as position from notification_feeds
    where tenant_id = any(${[...tenantIds]}::uuid[])`;
  return new Map(rows.map(({ tenantId, position }) => [tenantId, position]));
}

/** Deletes those stored longer ago than the retention, at most `limit`; returns how many. */
export async function pruneNotifications(sql: Sql, retentionDays: number, limit: number): Promise<number> {
  const over = sql`stored_at < now() - ${retentionDays} * interval '1 day'`;
  return pruneTable(sql, { table: "notifications", key: TENANT_AND_ID, over, orderBy: "stored_at" }, limit);
}
