import type { Redis } from "ioredis";
import { keys } from "../redis/keys.ts";
import type { CacheAnswer, CacheScope } from "./cache.ts";

type Outcome = CacheAnswer<unknown>["outcome"];

/** Reads of a tenant's cache by outcome, of all processes together. */
export type CacheCounts = Record<Outcome, number>;

export interface CacheStats {
  note(tenantId: string, scope: CacheScope, outcome: Outcome): void;
  /** Of the last hours, and of one scope or of all. Rejects while Redis is away. */
  read(tenantId: string, scopes: readonly CacheScope[]): Promise<CacheCounts>;
  /**
   * Hits and stale answers of this process by all reads since it started; null before the first.
   */
  hitRate(): number | null;
}

const FLUSH_MS = 1_000;
/** Counts nobody adds to are forgotten. */
const KEEP_SECONDS = 86_400;

/**
 * Counted here and added to Redis once a second: one command a read would cost as much as the read.
 */
export function createCacheStats(redis: Redis): CacheStats {
  let unsent = new Map<string, Map<string, number>>();
  const own: CacheCounts = { hit: 0, miss: 0, stale: 0 };
  let flushScheduled = false;

  async function flush(): Promise<void> {
    flushScheduled = false;
    const sending = unsent;
    unsent = new Map();
    const pipeline = redis.pipeline();
    for (const [tenantId, counts] of sending) {
      const key = keys.cacheCounts(tenantId);
      for (const [field, count] of counts) pipeline.hincrby(key, field, count);
      pipeline.expire(key, KEEP_SECONDS);
    }
    // What can't be counted is not: nobody decides by these numbers.
    await pipeline.exec().catch(() => {});
  }

  return {
    note(tenantId, scope, outcome) {
      own[outcome] += 1;
      const counts = unsent.get(tenantId) ?? new Map<string, number>();
      unsent.set(tenantId, counts);
      const field = `${scope}:${outcome}`;
      counts.set(field, (counts.get(field) ?? 0) + 1);
      if (flushScheduled) return;
      flushScheduled = true;
      setTimeout(flush, FLUSH_MS).unref();
    },

    async read(tenantId, scopes) {
      const stored = await redis.hgetall(keys.cacheCounts(tenantId));
      const waiting = unsent.get(tenantId);
      const of = (outcome: Outcome) =>
        scopes
          .map((scope) => `${scope}:${outcome}`)
          .reduce((sum, field) => sum + Number(stored[field] ?? 0) + (waiting?.get(field) ?? 0), 0);
      return { hit: of("hit"), miss: of("miss"), stale: of("stale") };
    },

    hitRate() {
      const reads = own.hit + own.miss + own.stale;
      return reads === 0 ? null : (own.hit + own.stale) / reads;
    },
  };
}
