import type { Redis } from "ioredis";
import { keys } from "../redis/keys.ts";

export interface CacheKey {
  /** Scope and question. */
  key: string;
  /** Until it is forgotten, also as a stale answer. */
  ttlSeconds: number;
}

const SCAN_COUNT = 1_000;
/** A page looks at so many keys of the whole Redis at the most: it may be short, or empty, and yet have a next one. */
const MAX_SCANS = 20;

/**
 * Some of a tenant's entries whose name starts with `prefix`, from a SCAN cursor on; the next cursor is "0" at the end. As
 * SCAN does, it may name an entry twice, and misses none that was there all the time.
 */
export async function listCacheKeys(
  redis: Redis,
  tenantId: string,
  { prefix, cursor, limit }: { prefix: string; cursor: string; limit: number },
): Promise<{ items: CacheKey[]; cursor: string }> {
  const start = keys.cacheEntry(tenantId, "");
  const pattern = `${escapeGlob(start + prefix)}*`;
  const found: string[] = [];
  let next = cursor;
  for (let scans = 0; scans < MAX_SCANS && found.length < limit; scans += 1) {
    const [position, names] = await redis.scan(next, "MATCH", pattern, "COUNT", SCAN_COUNT);
    found.push(...names);
    next = position;
    if (next === "0") break;
  }
  const pipeline = redis.pipeline();
  for (const name of found) pipeline.ttl(name);
  const ttls = (await pipeline.exec()) ?? [];
  const items = found.map((name, index) => ({
    key: name.slice(start.length),
    ttlSeconds: Number(ttls[index]?.[1] ?? -2),
  }));
  return { items: items.filter(({ ttlSeconds }) => ttlSeconds >= 0), cursor: next };
}

function escapeGlob(text: string): string {
  return text.replaceAll(/[\\*?[\]]/g, "\\$&");
}
