import type { Redis } from "ioredis";
import type { Invalidator } from "../../cache/invalidator.ts";
import type { Database } from "../../db/client.ts";
import { retryRolledBack } from "../../db/failures.ts";
import { pruneAll } from "../../db/prune.ts";
import { encodeDomainAnnouncement } from "../../streams/messages.ts";
import { DOMAIN_STREAM } from "../../streams/topology.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { tagsOf } from "./cache-tags.ts";
import { createHandleWaiting } from "./handle-waiting.ts";
import {
  claimAnnouncements,
  type EventRef,
  pruneOutbox,
  readOutboxBacklog,
  releaseAnnouncements,
  type ToldEvent,
} from "./repository.ts";
import { pruneFailures } from "./waiting-repository.ts";

export interface OutboxDeps {
  db: Database;
  redis: Redis;
  invalidator: Invalidator;
  metrics: Metrics;
  log: Log;
}

export type OutboxService = ReturnType<typeof createOutboxService>;

/** Both gauges, and every scraper, share one reading. */
const BACKLOG_REMEMBERED_MS = 5_000;
const KEEP_FAILURES_DAYS = 30;

/**
 * G7: what the outbox holds for its consumers is announced on the domain stream until it is done,
 * and handled in order.
 */
export function createOutboxService({ db, redis, invalidator, metrics, log }: OutboxDeps) {
  const readBacklog = remembered(() => readOutboxBacklog(db.read), BACKLOG_REMEMBERED_MS);
  metrics.observe("footfall_outbox_undone_events", "Domain events that wait for a consumer", async () => {
    return (await readBacklog()).events;
  });
  metrics.observe(
    "footfall_outbox_oldest_seconds",
    "Age of the oldest domain event that waits for a consumer",
    async () => (await readBacklog()).oldestSeconds,
  );

  /** One message a tenant, however many of its events wait: a consumer reads them all. */
  async function announce(events: readonly EventRef[]): Promise<void> {
    if (events.length === 0) return;
    const { key, maxLength } = DOMAIN_STREAM;
    const pipeline = redis.pipeline();
    for (const event of new Map(events.map((one) => [one.tenantId, one])).values())
      pipeline.xadd(key, "MAXLEN", "~", maxLength, "*", ...encodeDomainAnnouncement(event));
    for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
  }

  /**
   * The process of the change deleted these tags, unless it died in that moment or had lost Redis.
   */
  async function invalidateAgain(events: readonly ToldEvent[]): Promise<void> {
    for (const [tenantId, ofTenant] of Map.groupBy(events, (event) => event.tenantId))
      await invalidator.invalidateTags(tenantId, ofTenant.flatMap(tagsOf));
  }

  return {
    /**
     * Announces up to `limit` due events; returns how many. Asks Redis first, which is cheaper than
     * claiming what can't be announced. Throws when Redis or Postgres is away or Redis is full;
     * then the events are due again at once.
     */
    async announceDue(limit: number): Promise<number> {
      await redis.ping();
      const due = await retryRolledBack(() => claimAnnouncements(db.write, limit));
      try {
        await invalidateAgain(due);
        await announce(due);
      } catch (error) {
        await retryRolledBack(() => releaseAnnouncements(db.write, due));
        throw error;
      }
      metrics.domainEventsAnnounced.inc(due.length);
      return due.length;
    },

    /**
     * Announces tenants whose events wait to their consumers. Throws when Redis is away or full.
     */
    announce,

    handleWaiting: createHandleWaiting({ sql: db.write, invalidator, metrics, log }),

    /** One round of housekeeping. Returns how many rows went. */
    async prune(): Promise<number> {
      const failures = await pruneAll((limit) => pruneFailures(db.write, KEEP_FAILURES_DAYS, limit));
      return failures + (await pruneAll((limit) => pruneOutbox(db.write, limit)));
    },
  };
}

function remembered<T>(read: () => Promise<T>, forMs: number): () => Promise<T> {
  let known: { value: Promise<T>; untilMs: number } | null = null;
  return () => {
    if (known === null || known.untilMs < Date.now()) known = { value: read(), untilMs: Date.now() + forMs };
    return known.value;
  };
}
