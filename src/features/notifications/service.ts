import type { Redis } from "ioredis";
import { visibleTopics } from "../../core/access.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { TOPICS, type Topic } from "../../core/domain-events.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { pruneAll } from "../../db/prune.ts";
import type { RedisFactory } from "../../redis/client.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { DomainHandler } from "../outbox/index.ts";
import { createFeeds, type FeedClient } from "./feeds.ts";
import * as repository from "./repository.ts";
import type { NotificationListQuery } from "./schema.ts";
import { feedItemOf, publishItems } from "./tenant-stream.ts";

export interface NotificationsDeps {
  db: Database;
  redis: Redis;
  redisFactory: RedisFactory;
  metrics: Metrics;
  log: Log;
  retentionDays: number;
}

const EVENTS_A_STATEMENT = 500;

export type NotificationsService = ReturnType<typeof createNotificationsService>;

export function createNotificationsService(deps: NotificationsDeps) {
  const { db, redis, metrics, log, retentionDays } = deps;
  const feeds = createFeeds({ ...deps, sql: db.read });

  /** May fail or be left out: the feeds find it in Postgres two seconds later. */
  async function publish(rows: readonly repository.PlacedNotification[]): Promise<void> {
    const tenants = Map.groupBy(rows, ({ tenantId }) => tenantId);
    const published = [...tenants].map(([tenantId, own]) =>
      publishItems(redis, tenantId, own.toSorted((a, b) => a.position - b.position).map(feedItemOf)),
    );
    for (const result of await Promise.allSettled(published))
      if (result.status === "rejected") log.debug({ error: String(result.reason) }, "not published");
  }

  return {
    /**
     * Stores the notifications of domain events, each once however often it is asked to, and pushes
     * them.
     */
    domainHandler: {
      consumer: "notifications",
      atOnce: EVENTS_A_STATEMENT,
      async handle(events) {
        if (events.length === 0) return 0;
        const rows = await repository.storeNotifications(db.write, events);
        metrics.notificationsStored.inc(rows.length);
        await publish(rows);
        return rows.length;
      },
    } satisfies DomainHandler,

    /** Throws `invalid_input` for a cursor of another list. */
    async listNotifications(ctx: RequestContext, { limit, cursor, ...filters }: NotificationListQuery) {
      const visible = visibilityOf(ctx, filters.topics);
      const bound = { ...filters, ...visible };
      const [position] = cursor ? decodeCursor(bound, cursor, 1) : [];
      const before = position === undefined ? undefined : Number(position);
      if (before !== undefined && !Number.isSafeInteger(before))
        throw new AppError("invalid_input", "The cursor is not valid.");
      const rows = await repository.selectNotifications(db.read, ctx.tenantId, {
        ...visible,
        unread: filters.unread === true,
        before,
        limit: limit + 1,
      });
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map(({ createdAt, readAt, position: _, ...row }) => ({
          ...row,
          createdAt: createdAt.toISOString(),
          readAt: readAt?.toISOString() ?? null,
        })),
        nextCursor: last ? encodeCursor(bound, [String(last.position)]) : null,
      };
    },

    /** For everyone who sees it. Throws `not_found`. */
    async markRead(ctx: RequestContext, id: string): Promise<void> {
      const found = isUuid(id) && (await repository.markRead(db.write, ctx.tenantId, visibilityOf(ctx), id));
      if (!found) throw new AppError("not_found", "There is no such notification.");
    },

    /**
     * Delivers to a client until it leaves, see feeds.ts. Throws `unavailable` when Postgres is
     * away.
     */
    follow(
      ctx: RequestContext,
      { topics, after }: { topics?: readonly Topic[]; after: number | null },
      client: FeedClient,
    ): Promise<void> {
      return feeds.follow(ctx.tenantId, visibilityOf(ctx, topics), after, client);
    },

    /** One round of housekeeping. Returns how many rows went. */
    prune: () => pruneAll((limit) => repository.pruneNotifications(db.write, retentionDays, limit)),

    close: feeds.close,
  };
}

/** The id of no seller. */
const NOBODY = "";

/** Which of the notifications asked for a caller may see. A seller without an id has none. */
function visibilityOf(
  { principal, sellerId }: RequestContext,
  wanted: readonly Topic[] = TOPICS,
): repository.NotificationVisibility {
  const visible = visibleTopics(principal);
  const topics = visible.filter((topic) => wanted.includes(topic));
  const nobodys = sellerId === null && principal.kind === "user" && principal.role === "seller";
  return {
    sellerId: nobodys ? NOBODY : sellerId,
    topics: topics.length === TOPICS.length ? null : topics,
  };
}
