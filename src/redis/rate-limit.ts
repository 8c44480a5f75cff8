import type { Redis } from "ioredis";
import type { RatePolicy } from "../core/rate-limits.ts";
import { keys } from "./keys.ts";

/**
 * A sliding window: a request is admitted when fewer than the limit were admitted in the window
 * that ends with it. Requests of one twentieth of a window share a bucket, which leaves with its
 * last request. So no window holds more than the limit, a request counts at most a twentieth too
 * long, and a key holds at most 21 buckets. Only admitted requests are counted, so hammering does
 * not prolong a refusal.
 */
const BUCKETS_PER_WINDOW = 20;

export interface RateDecision {
  admitted: boolean;
  /** Requests left in the window. */
  remaining: number;
  /**
   * Milliseconds until the oldest bucket leaves: until there is room again (refused), or more of it
   * (admitted).
   */
  resetMs: number;
}

/**
 * The window is a list of its buckets, the oldest first: time of the last request, number of
 * requests. The time is that of Redis in microseconds, the same for every process. A bucket more
 * than a window ahead comes from a clock that was set back since, and is dropped.
 */
const SCRIPT = `
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local width = window / tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local buckets = redis.call('LRANGE', KEYS[1], 0, -1)
local used, gone = 0, 0
for n = 1, #buckets, 2 do
  if math.abs(now - buckets[n]) < window then used = used + buckets[n + 1] else used, gone = 0, n + 1 end
end
if gone > 0 then redis.call('LTRIM', KEYS[1], gone, -1) end
local oldest = buckets[gone + 1] or now
if used >= limit then return {0, 0, math.ceil((oldest + window - now) / 1000)} end
local last, count = buckets[#buckets - 1], buckets[#buckets]
if gone < #buckets and math.floor(last / width) == math.floor(now / width) then
  if gone + 2 == #buckets then oldest = now end
  redis.call('LSET', KEYS[1], -2, now)
  redis.call('LSET', KEYS[1], -1, count + 1)
else
  redis.call('RPUSH', KEYS[1], now, 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {1, limit - used - 1, math.ceil((oldest + window - now) / 1000)}
`;

export type RateCounter = (key: string, policy: RatePolicy) => Promise<RateDecision>;

export interface RateCounters {
  shared: RateCounter;
  /** Takes over while Redis is away. */
  local: RateCounter;
}

/** Counts in Redis. Rejects when Redis is away. */
export function createRedisRateCounter(redis: Redis): RateCounter {
  redis.defineCommand("footfallRateLimit", { numberOfKeys: 1, lua: SCRIPT });
  const client = redis as Redis & {
    footfallRateLimit(
      key: string,
      limit: number,
      windowMs: number,
      buckets: number,
    ): Promise<[number, number, number]>;
  };
  return async (key, { limit, windowMs }) => {
    const [admitted, remaining, resetMs] = await client.footfallRateLimit(
      keys.rateLimit(key),
      limit,
      windowMs,
      BUCKETS_PER_WINDOW,
    );
    return { admitted: admitted === 1, remaining, resetMs };
  };
}

interface Bucket {
  lastMs: number;
  count: number;
}

/**
 * The same count in this process only, while Redis is away. With n processes, n times the limit is
 * admitted.
 */
export function createLocalRateCounter(): RateCounter {
  const windows = new Map<string, Bucket[]>();
  return async (key, { limit, windowMs }) => {
    const now = performance.now();
    const widthMs = windowMs / BUCKETS_PER_WINDOW;
    const buckets = (windows.get(key) ?? []).filter(({ lastMs }) => now - lastMs < windowMs);
    const used = buckets.reduce((sum, { count }) => sum + count, 0);
    const admitted = used < limit;
    const newest = buckets.at(-1);
    if (admitted && newest && Math.floor(newest.lastMs / widthMs) === Math.floor(now / widthMs))
      buckets[buckets.length - 1] = { lastMs: now, count: newest.count + 1 };
    else if (admitted) buckets.push({ lastMs: now, count: 1 });
    // Inserted again, so that keys are in the order of their last use and the longest unused one
    // goes first.
    windows.delete(key);
    windows.set(key, buckets);
    if (windows.size > MAX_LOCAL_KEYS) windows.delete(windows.keys().next().value as string);
    const oldestMs = buckets[0]?.lastMs ?? now;
    return {
      admitted,
      remaining: admitted ? limit - used - 1 : 0,
      resetMs: Math.ceil(oldestMs + windowMs - now),
    };
  };
}

const MAX_LOCAL_KEYS = 50_000;
