import type { Redis } from "ioredis";
import type { RatePolicy } from "../core/rate-limits.ts";
import { keys } from "./keys.ts";

/**
 * Sliding-window counter, atomic in one script: the requests of the last window are those of the current fixed window
 * and the part of the one before that it still covers. Only admitted requests are counted, so hammering does not prolong
 * a refusal. Time is Redis's own, the same for every process.
 */
export interface RateDecision {
  admitted: boolean;
  /** Requests left in the window. */
  remaining: number;
  /** Milliseconds until a further request can be admitted (refused), or until the window has passed (admitted). */
  resetMs: number;
}

const SCRIPT = `
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index = math.floor(now / window)
local into = now - index * window
local state = redis.call('HMGET', KEYS[1], 'i', 'c', 'p')
local current, previous = 0, 0
if tonumber(state[1]) == index then
  current, previous = tonumber(state[2]), tonumber(state[3])
elseif tonumber(state[1]) == index - 1 then
  previous = tonumber(state[2])
end
local used = current + previous * (window - into) / window
if used + 1 > limit then
  local wait = window - into
  if current + 1 <= limit and previous > 0 then
    wait = math.max(1, math.ceil(window - (limit - current - 1) * window / previous - into))
  end
  return {0, 0, wait}
end
redis.call('HSET', KEYS[1], 'i', index, 'c', current + 1, 'p', previous)
redis.call('PEXPIRE', KEYS[1], window * 2)
return {1, math.floor(limit - used - 1), window - into}
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
    footfallRateLimit(key: string, limit: number, windowMs: number): Promise<[number, number, number]>;
  };
  return async (key, { limit, windowMs }) => {
    const [admitted, remaining, resetMs] = await client.footfallRateLimit(
      keys.rateLimit(key),
      limit,
      windowMs,
    );
    return { admitted: admitted === 1, remaining, resetMs };
  };
}

/**
 * The same count in this process only: what takes over while Redis is away. With n processes, n times the limit is
 * admitted meanwhile.
 */
export function createLocalRateCounter(): RateCounter {
  const windows = new Map<string, { index: number; current: number; previous: number }>();
  return async (key, { limit, windowMs }) => {
    const now = Date.now();
    const index = Math.floor(now / windowMs);
    const into = now - index * windowMs;
    const known = windows.get(key);
    const current = known?.index === index ? known.current : 0;
    const previous = known?.index === index ? known.previous : known?.index === index - 1 ? known.current : 0;
    const used = current + (previous * (windowMs - into)) / windowMs;
    if (used + 1 > limit) return { admitted: false, remaining: 0, resetMs: windowMs - into };
    windows.delete(key);
    windows.set(key, { index, current: current + 1, previous });
    if (windows.size > MAX_LOCAL_KEYS) windows.delete(windows.keys().next().value as string);
    return { admitted: true, remaining: Math.floor(limit - used - 1), resetMs: windowMs - into };
  };
}

const MAX_LOCAL_KEYS = 50_000;
