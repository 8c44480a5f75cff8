import type { Redis } from "ioredis";
import { keys } from "../redis/keys.ts";

export interface CacheKey {
  /** Scope and question. */
  key: string;
  /** Until it is forgotten, also as a stale answer. */
  ttlSeconds: number;
}

/** As many as fit a page or two: Redis hands over whole buckets. */
const SCAN_COUNT = 100;
/**
 * A page reads at most so many keys of the whole Redis. So it may be short or empty, and still have
 * a next page.
 */
const MAX_SCANS = 200;

/**
 * A place in a SCAN: its cursor, and how many of the names that it returns there were listed
 * already.
 */
export interface ScanPlace {
  cursor: string;
  skip: number;
}

/**
 * Some of a tenant's entries whose name starts with `prefix`, and where to go on; null at the end.
 * As with SCAN, an entry may come twice, and none that was there all the time is missed.
 */
export async function listCacheKeys(
  redis: Redis,
  tenantId: string,
  { prefix, place, limit }: { prefix: string; place: ScanPlace; limit: number },
): Promise<{ items: CacheKey[]; next: ScanPlace | null }> {
  const start = keys.cacheEntry(tenantId, "");
  const pattern = `${escapeGlob(start + prefix)}*`;
  const found: string[] = [];
  let next: ScanPlace | null = place;
  for (let scans = 0; next !== null && scans < MAX_SCANS && found.length < limit; scans += 1) {
    const { cursor, skip }: ScanPlace = next;
    const [position, names] = await redis.scan(cursor, "MATCH", pattern, "COUNT", SCAN_COUNT);
    const taken = names.slice(skip, skip + limit - found.length);
    found.push(...taken);
    if (skip + taken.length < names.length) next = { cursor, skip: skip + taken.length };
    else next = position === "0" ? null : { cursor: position, skip: 0 };
  }
  const pipeline = redis.pipeline();
  for (const name of found) pipeline.ttl(name);
  const ttls = (await pipeline.exec()) ?? [];
  const items = found.map((name, index) => ({
    key: name.slice(start.length),
    ttlSeconds: Number(ttls[index]?.[1] ?? -2),
  }));
  return { items: items.filter(({ ttlSeconds }) => ttlSeconds >= 0), next };
}

function escapeGlob(text: string): string {
  return text.replaceAll(/[\\*?[\]]/g, "\\$&");
}
