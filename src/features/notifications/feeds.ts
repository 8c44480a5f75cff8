import type { Redis } from "ioredis";
import { createSemaphore } from "../../core/semaphore.ts";
import type { Sql } from "../../db/client.ts";
import type { RedisFactory } from "../../redis/client.ts";
import { keys } from "../../redis/keys.ts";
import { createRedisGuard } from "../../resilience/redis-guard.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { type NotificationVisibility, selectAfter, selectPositions } from "./repository.ts";
import { type FeedItem, feedItemOf, MAX_LENGTH, readItems } from "./tenant-stream.ts";

/**
 * Live feeds: one for each tenant with clients on this process, at the position that all of them
 * have reached. A nudge over pub/sub says that there is more. Nudges may get lost, so Postgres is
 * asked for the positions of all feeds every two seconds. New items come from the tenant's stream
 * in Redis, or from Postgres where that has a hole. A client that was away reads page by page from
 * its own position, and joins the feed when it has caught up.
 */
export interface FeedClient {
  /** Aborted when the client has left. */
  signal: AbortSignal;
  /** Resolves when the client has taken what was delivered. */
  drained(): Promise<void>;
  /** Everyone with the same filter gets the same array. */
  deliver(items: readonly FeedItem[]): void;
  /** The missed ones could not be read: the client must come again. */
  fail(error: unknown): void;
}

export interface FeedsDeps {
  sql: Sql;
  redis: Redis;
  redisFactory: RedisFactory;
  metrics: Metrics;
  log: Log;
}

export type Feeds = ReturnType<typeof createFeeds>;

interface Follower {
  client: FeedClient;
  filter: NotificationVisibility;
  filterName: string;
  position: number;
}

interface Feed {
  tenantId: string;
  /** Delivered to all that are live. */
  position: number;
  /** Known to exist. */
  target: number;
  opened: Promise<void>;
  reading: Promise<void> | null;
  followers: Set<Follower>;
  live: Set<Follower>;
}

/**
 * A client that does not read costs one page: so many rows or bytes, and the row that goes beyond.
 */
const PAGE = { rows: 500, bytes: 256 * 1024 };
/**
 * Reads at once for all clients that were away. Each has a page in memory several times over, and
 * others use the pool, too.
 */
const CATCHING_UP_AT_ONCE = 3;
/** The longest that an event is late when its nudge is lost or Redis is away. */
const LOOK_EVERY_MS = 2_000;

export function createFeeds({ sql, redis, redisFactory, metrics, log }: FeedsDeps) {
  // Not the breaker of requests: failures of replays must not take cache and limits from everybody.
  const redisGuard = createRedisGuard();
  const catchingUp = createSemaphore(CATCHING_UP_AT_ONCE, Number.POSITIVE_INFINITY);
  const feeds = new Map<string, Feed>();
  const channels = new Map<string, Feed>();
  let subscriber: Redis | null = null;
  let timer: Timer | undefined;
  let looking = false;

  async function readAfter(tenantId: string, position: number, target: number): Promise<FeedItem[]> {
    if (target - position <= MAX_LENGTH) {
      const items = await redisGuard.run(() => readItems(redis, tenantId, position)).catch(() => []);
      if (items.length > 0) return items;
    }
    return (await selectAfter(sql, tenantId, position, PAGE)).map(feedItemOf);
  }

  /** Brings a feed to its target. Callers meanwhile wait for the same reading. */
  function advance(feed: Feed): Promise<void> {
    feed.reading ??= readOn(feed).finally(() => {
      feed.reading = null;
    });
    return feed.reading;
  }

  async function readOn(feed: Feed): Promise<void> {
    while (feed.position < feed.target && feed.followers.size > 0) {
      const items = await readAfter(feed.tenantId, feed.position, feed.target);
      // Pruned already, or from another database: it must not move the feed past what will come.
      if (items.length === 0) feed.target = feed.position;
      else push(feed, items);
    }
  }

  function push(feed: Feed, items: readonly FeedItem[]): void {
    const first = items[0]?.position ?? 0;
    feed.position = items.at(-1)?.position ?? feed.position;
    const chosen = new Map<string, FeedItem[]>();
    for (const follower of feed.live) {
      let own = chosen.get(follower.filterName);
      if (own === undefined) {
        own = choose(items, follower.filter);
        chosen.set(follower.filterName, own);
      }
      // It came from another process, which was ahead of this one.
      if (follower.position >= first) own = own.filter(({ position }) => position > follower.position);
      deliver(follower, own);
      follower.position = Math.max(follower.position, feed.position);
    }
  }

  function deliver({ client }: Follower, items: readonly FeedItem[]): void {
    if (items.length === 0) return;
    client.deliver(items);
    metrics.notificationsPushed.inc(items.length);
  }

  /**
   * Sends a client what it has missed, then makes it live in the same turn of the event loop, so
   * that nothing is lost in between.
   */
  async function catchUp(feed: Feed, follower: Follower): Promise<void> {
    const { client, filter } = follower;
    while (!client.signal.aborted && follower.position < feed.position) {
      await catchingUp.run(async () => {
        if (client.signal.aborted) return;
        const items = await readAfter(feed.tenantId, follower.position, feed.position);
        follower.position = items.at(-1)?.position ?? feed.position;
        deliver(follower, choose(items, filter));
      });
      await client.drained();
    }
    if (!client.signal.aborted) feed.live.add(follower);
  }

  async function lookAtAll(): Promise<void> {
    if (looking) return;
    looking = true;
    try {
      const positions = await selectPositions(sql, [...feeds.keys()]);
      for (const [tenantId, position] of positions) nudge(feeds.get(tenantId), position);
    } catch (error) {
      log.debug({ error: String(error) }, "positions of the feeds not read");
    }
    looking = false;
  }

  function nudge(feed: Feed | undefined, position: number): void {
    if (feed === undefined) return;
    if (position > feed.target) feed.target = position;
    if (feed.position < feed.target)
      advance(feed).catch((error) => log.debug({ error: String(error) }, "feed not read, trying again"));
  }

  function open(tenantId: string): Feed {
    const known = feeds.get(tenantId);
    if (known) return known;
    const feed: Feed = {
      tenantId,
      position: 0,
      target: 0,
      opened: Promise.resolve(),
      reading: null,
      followers: new Set(),
      live: new Set(),
    };
    feeds.set(tenantId, feed);
    channels.set(keys.notificationNudge(tenantId), feed);
    subscribe(keys.notificationNudge(tenantId));
    timer ??= setInterval(lookAtAll, LOOK_EVERY_MS);
    feed.opened = selectPositions(sql, [tenantId]).then((positions) => {
      feed.position = positions.get(tenantId) ?? 0;
      feed.target = Math.max(feed.target, feed.position);
    });
    return feed;
  }

  function leave(feed: Feed, follower: Follower): void {
    feed.followers.delete(follower);
    feed.live.delete(follower);
    if (feed.followers.size > 0 || feeds.get(feed.tenantId) !== feed) return;
    feeds.delete(feed.tenantId);
    channels.delete(keys.notificationNudge(feed.tenantId));
    subscriber?.unsubscribe(keys.notificationNudge(feed.tenantId)).catch(() => {});
    if (feeds.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  /** Fails silently while Redis is away: every connection that becomes ready subscribes to all. */
  function subscribe(...names: string[]): void {
    if (subscriber === null) {
      subscriber = redisFactory.subscriber("notifications");
      subscriber.on("message", (channel: string, position: string) =>
        nudge(channels.get(channel), Number(position)),
      );
      subscriber.on("ready", () => {
        if (channels.size > 0) subscribe(...channels.keys());
      });
    }
    subscriber.subscribe(...names).catch(() => {});
  }

  return {
    /**
     * Delivers what comes after a position (null: from now on) until the client leaves. Once it
     * resolves, nothing that happens can be missed. Throws when Postgres is away.
     */
    async follow(
      tenantId: string,
      filter: NotificationVisibility,
      after: number | null,
      client: FeedClient,
    ): Promise<void> {
      if (client.signal.aborted) return;
      const feed = open(tenantId);
      const follower = { client, filter, filterName: JSON.stringify(filter), position: 0 };
      feed.followers.add(follower);
      client.signal.addEventListener("abort", () => leave(feed, follower), { once: true });
      await feed.opened;
      if (after !== null && after > feed.position) {
        feed.target = (await selectPositions(sql, [tenantId])).get(tenantId) ?? feed.target;
        await advance(feed);
      }
      // A position that does not exist is none of ours, and means nothing.
      follower.position = after !== null && after <= feed.position ? after : feed.position;
      catchUp(feed, follower).catch((error) => client.fail(error));
    },

    close(): void {
      clearInterval(timer);
      timer = undefined;
      subscriber?.disconnect();
      subscriber = null;
    },
  };
}

function choose(items: readonly FeedItem[], { sellerId, topics }: NotificationVisibility): FeedItem[] {
  return items.filter(
    (item) =>
      (sellerId === null || item.sellerId === sellerId) &&
      (topics === null || topics.some((topic) => topic === item.topic)),
  );
}
