import type { Redis } from "ioredis";
import type { StreamTopology } from "./topology.ts";

/**
 * When the oldest unacknowledged message was added, in ms by the clock of Redis; null when there is
 * none. Throws when Redis is away.
 */
export async function oldestMessageMs(redis: Redis, { key }: StreamTopology): Promise<number | null> {
  const [oldest] = await redis.xrange(key, "-", "+", "COUNT", 1);
  return oldest ? Number.parseInt(oldest[0], 10) : null;
}
