import type { Redis } from "ioredis";

/**
 * What is wrong with the memory settings of this Redis, as a sentence that says what to do; null
 * when nothing is wrong, or Redis does not tell. The cache must make room for the streams, which
 * have no expiry: docs/limits.md.
 */
export async function findMemoryRisk(redis: Redis): Promise<string | null> {
  const info = await redis.info("memory").catch(() => "");
  const maxmemory = /^maxmemory:(\d+)/m.exec(info)?.[1];
  const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1] ?? "";
  if (maxmemory === "0")
    return "Redis has no memory limit: set maxmemory, and maxmemory-policy to volatile-lru.";
  if (maxmemory === undefined || policy === "volatile-lru") return null;
  return `Redis has the maxmemory-policy ${policy}: set it to volatile-lru, or the cache takes the streams' room.`;
}
