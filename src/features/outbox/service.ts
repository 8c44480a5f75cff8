import type { Redis } from "ioredis";
import type { Database } from "../../db/client.ts";
import { retryRolledBack } from "../../db/failures.ts";
import { pruneAll } from "../../db/prune.ts";
import { encodeDomainAnnouncement } from "../../streams/messages.ts";
import { DOMAIN_STREAM } from "../../streams/topology.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { claimAnnouncements, pruneOutbox, readOutboxBacklog } from "./repository.ts";

export interface OutboxDeps {
  db: Database;
  redis: Redis;
  metrics: Metrics;
}

export type OutboxService = ReturnType<typeof createOutboxService>;

/** Both gauges, and every scraper, share one reading. */
const BACKLOG_REMEMBERED_MS = 5_000;

/** The relay's half of G7: what the outbox holds for its consumers is announced on the domain stream until it is done. */
export function createOutboxService({ db, redis, metrics }: OutboxDeps) {
  const readBacklog = remembered(() => readOutboxBacklog(db.read), BACKLOG_REMEMBERED_MS);
  metrics.observe("footfall_outbox_undone_events", "Domain events that wait for a consumer", async () => {
    return (await readBacklog()).events;
  });
  metrics.observe(
    "footfall_outbox_oldest_seconds",
    "Age of the oldest domain event that waits for a consumer",
    async () => (await readBacklog()).oldestSeconds,
  );

  return {
    /**
     * Announces up to `limit` events that are due; returns how many. Asks Redis first: what is claimed and then can't be
     * announced would wait for its next turn. Throws when Redis or Postgres is away.
     */
    async announceDue(limit: number): Promise<number> {
      await redis.ping();
      const due = await retryRolledBack(() => claimAnnouncements(db.write, limit));
      if (due.length === 0) return 0;
      const pipeline = redis.pipeline();
      const { key, maxLength } = DOMAIN_STREAM;
      for (const event of due)
        pipeline.xadd(key, "MAXLEN", "~", maxLength, "*", ...encodeDomainAnnouncement(event));
      const replies = (await pipeline.exec()) ?? [];
      for (const [error] of replies) if (error) throw error;
      metrics.domainEventsAnnounced.inc(due.length);
      return due.length;
    },

    /** One round of housekeeping. Returns how many rows went. */
    prune: () => pruneAll((limit) => pruneOutbox(db.write, limit)),
  };
}

function remembered<T>(read: () => Promise<T>, forMs: number): () => Promise<T> {
  let known: { value: Promise<T>; untilMs: number } | null = null;
  return () => {
    if (known === null || known.untilMs < Date.now()) known = { value: read(), untilMs: Date.now() + forMs };
    return known.value;
  };
}
