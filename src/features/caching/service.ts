import type { Redis } from "ioredis";
import { CACHE_SCOPES, type CacheScope } from "../../cache/cache.ts";
import { listCacheKeys } from "../../cache/listing.ts";
import type { CacheStats } from "../../cache/stats.ts";
import { clearingTag, deleteTags } from "../../cache/tags.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { recordAudit } from "../audit/index.ts";
import type { CacheKeysQuery } from "./schema.ts";

export interface CachingDeps {
  db: Pick<Database, "transaction">;
  redis: Redis;
  stats: CacheStats;
}

export type CachingService = ReturnType<typeof createCachingService>;

/**
 * What a tenant sees of its own part of the cache. Every call throws `unavailable` while Redis is
 * away.
 */
export function createCachingService({ db, redis, stats }: CachingDeps) {
  async function readStats(tenantId: string, scopes: readonly CacheScope[]) {
    const { hit, miss, stale } = await withRedis(() => stats.read(tenantId, scopes));
    const reads = hit + miss + stale;
    return { hits: hit, misses: miss, stale, hitRate: reads === 0 ? null : (hit + stale) / reads };
  }

  /** O(1): one tag that every entry of the tenant (or scope) was computed under. */
  async function clear(ctx: RequestContext, scope: CacheScope | "everything"): Promise<void> {
    await db.transaction(async (tx) => {
      await recordAudit(tx, ctx, { action: "cache.cleared", target: scope });
      await withRedis(() => deleteTags(redis, ctx.tenantId, [clearingTag(scope)]));
    });
  }

  return {
    getCacheStats: ({ tenantId }: RequestContext) => readStats(tenantId, CACHE_SCOPES),
    getAnalyticsCacheStats: ({ tenantId }: RequestContext) => readStats(tenantId, ["analytics"]),
    clearCache: (ctx: RequestContext) => clear(ctx, "everything"),
    clearAnalyticsCache: (ctx: RequestContext) => clear(ctx, "analytics"),

    /** Throws `invalid_input` for a cursor of another prefix. */
    async listCacheKeys({ tenantId }: RequestContext, { prefix, limit, cursor }: CacheKeysQuery) {
      const filters = ["cache", prefix];
      const [start = "0", skipped = "0"] = cursor ? decodeCursor(filters, cursor, 2) : [];
      if (!/^\d{1,20}$/.test(start) || BigInt(start) >= 2n ** 64n || !/^\d{1,9}$/.test(skipped))
        throw new AppError("invalid_input", "The cursor is not valid.");
      const place = { cursor: start, skip: Number(skipped) };
      const page = await withRedis(() => listCacheKeys(redis, tenantId, { prefix, limit, place }));
      const { items, next } = page;
      return {
        items,
        nextCursor: next && encodeCursor(filters, [next.cursor, String(next.skip)]),
      };
    },
  };
}

async function withRedis<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    throw new AppError("unavailable", "The cache can't be reached right now.", { cause });
  }
}
