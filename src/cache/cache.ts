import type { Redis } from "ioredis";
import { isAway } from "../db/failures.ts";
import { keys } from "../redis/keys.ts";

import { isOverload } from "../resilience/read-guard.ts";
import type { RedisGuard } from "../resilience/redis-guard.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { createComputationLocks } from "./computation-lock.ts";
import { readOrMakeGenerations } from "./tags.ts";

/**
 * Tag cache by generations. A tag is one key holding a random generation; a value stores the generations it was
 * computed under, read *before* computing. A hit needs all of them unchanged, so a value computed from a snapshot that
 * a later commit has outdated can't be served as one: that commit deleted the tag, whenever the value was stored.
 * An outdated value is kept for a while. Where the question tolerates it, it is served as `stale` and said to be: while a
 * fresh one is computed behind it, and while none can be. Redis away means computing every time, never failing.
 */
export const CACHE_SCOPES = ["analytics", "products", "orders"] as const;
export type CacheScope = (typeof CACHE_SCOPES)[number];

export interface CacheQuestion {
  tenantId: string;
  /** What the tenant can clear, and count, by itself. */
  scope: CacheScope;
  /** Identifies the question inside tenant and scope; everything that changes the answer must be in it. */
  name: string;
  tags: readonly string[];
  ttlSeconds: number;
  /** Compute, and store the fresh answer for the others. */
  skipRead?: boolean;
  /**
   * An outdated answer that says so will do: for a moment (see StaleTolerance), or while nothing can be computed. Without
   * it nothing stale is served, ever.
   */
  toleratesStale?: boolean;
}

export interface CacheAnswer<T> {
  value: T;
  outcome: "hit" | "miss" | "stale";
  /** Why it is stale: outdated a moment ago, Postgres is away, or there is too much to do. */
  reason?: "revalidating" | "unavailable" | "overloaded";
}

/** How old a stale answer may be, and up to which age it is not even computed anew, in ms; moves with the load. */
export interface StaleTolerance {
  staleMs: number;
  restMs: number;
}

export interface Cache {
  getOrCompute<T>(question: CacheQuestion, compute: () => Promise<T>): Promise<CacheAnswer<T>>;
  /** Whatever is at hand, however old; null when nothing is. For when nothing more shall be computed. */
  peek<T>(question: CacheQuestion): Promise<CacheAnswer<T> | null>;
}

export interface CacheOptions {
  tolerance?: () => StaleTolerance;
  /** Hears of every read. */
  onRead?: (tenantId: string, scope: CacheScope, outcome: CacheAnswer<unknown>["outcome"]) => void;
}

interface Entry {
  /** Of the tenant's whole cache, of the scope, then of the question's tags. */
  generations: string[];
  value: unknown;
  madeAtMs: number;
  freshUntilMs: number;
}

/** Nobody is served anything stale unless the caller says so. */
const STRICT: StaleTolerance = { staleMs: 0, restMs: 0 };
/** How long an answer outlives its freshness: what is served while Postgres is away. */
const KEEP_SECONDS = 3_600;

export function createCache(
  redis: Redis,
  guard: RedisGuard,
  metrics: Metrics,
  { tolerance = () => STRICT, onRead = () => {} }: CacheOptions = {},
): Cache {
  const inFlight = new Map<string, Promise<unknown>>();
  const locks = createComputationLocks(redis, guard);

  async function once<T>(flight: string, work: () => Promise<T>): Promise<T> {
    const running = inFlight.get(flight);
    if (running) return running as Promise<T>;
    const started = work().finally(() => inFlight.delete(flight));
    inFlight.set(flight, started);
    return started;
  }

  function note<T>({ tenantId, scope }: CacheQuestion, answer: CacheAnswer<T>): CacheAnswer<T> {
    metrics.cacheReads.inc({ outcome: answer.outcome });
    onRead(tenantId, scope, answer.outcome);
    return answer;
  }

  /** Computes and stores; of several processes one, unless that one takes long. */
  async function refresh<T>(
    question: CacheQuestion,
    generations: string[],
    compute: () => Promise<T>,
  ): Promise<CacheAnswer<T>> {
    const entryKey = entryKeyOf(question);
    // The generations are part of the flight's name: whoever asks after an invalidation never joins an older flight.
    return once(`${entryKey} ${generations.join()}`, async () => {
      const lock = await locks.acquire(question.tenantId, nameOf(question), generations);
      if (lock === null && !question.skipRead) {
        const found = await waitForEntry(question, generations);
        if (found) return { value: found.value as T, outcome: "hit" };
      }
      try {
        const value = await compute();
        const entry: Entry = {
          generations,
          value,
          madeAtMs: Date.now(),
          freshUntilMs: Date.now() + question.ttlSeconds * 1_000,
        };
        redis.set(entryKey, JSON.stringify(entry), "EX", question.ttlSeconds + KEEP_SECONDS).catch(() => {
          metrics.redisFallbacks.inc({ operation: "cache" });
        });
        return { value, outcome: "miss" };
      } finally {
        if (lock) locks.release(lock);
      }
    });
  }

  /** What another process is computing, if it comes soon and holds under these generations. */
  async function waitForEntry(question: CacheQuestion, generations: string[]): Promise<Entry | null> {
    for (const waitMs of LOCK_WAITS_MS) {
      await Bun.sleep(waitMs);
      const found = await guard.run(() => readEntry(redis, question)).catch(() => null);
      if (!found || found.generations.join() !== generations.join()) return null;
      if (found.entry && isFresh(found.entry, generations)) return found.entry;
    }
    return null;
  }

  return {
    async peek<T>(question: CacheQuestion): Promise<CacheAnswer<T> | null> {
      const found = await guard.run(() => readEntry(redis, question)).catch(() => null);
      if (!found?.entry || question.skipRead) return null;
      const value = found.entry.value as T;
      return isFresh(found.entry, found.generations)
        ? note(question, { value, outcome: "hit" })
        : note(question, { value, outcome: "stale", reason: "overloaded" });
    },

    async getOrCompute<T>(question: CacheQuestion, compute: () => Promise<T>): Promise<CacheAnswer<T>> {
      const { skipRead = false, toleratesStale = false } = question;
      let found: Awaited<ReturnType<typeof readEntry>>;
      try {
        found = await guard.run(() => readEntry(redis, question));
      } catch {
        metrics.redisFallbacks.inc({ operation: "cache" });
        // Nothing tells a flight from before a commit from one after it: only who tolerates the older one joins.
        const value = toleratesStale ? await once(entryKeyOf(question), compute) : await compute();
        return note(question, { value, outcome: "miss" });
      }
      const { entry, generations } = found;
      if (entry && !skipRead) {
        if (isFresh(entry, generations)) return note(question, { value: entry.value as T, outcome: "hit" });
        const { staleMs, restMs } = toleratesStale ? tolerance() : STRICT;
        // Another process may be ahead by its clock.
        const ageMs = Math.max(0, Date.now() - entry.madeAtMs);
        if (ageMs < staleMs) {
          // Nobody waits for it; should it fail, the next one who asks tries again.
          if (ageMs >= restMs) refresh(question, generations, compute).catch(() => {});
          return note(question, { value: entry.value as T, outcome: "stale", reason: "revalidating" });
        }
      }
      try {
        return note(question, await refresh(question, generations, compute));
      } catch (error) {
        const reason = isAway(error) ? "unavailable" : isOverload(error) ? "overloaded" : null;
        if (!entry || skipRead || !toleratesStale || reason === null) throw error;
        return note(question, { value: entry.value as T, outcome: "stale", reason });
      }
    },
  };
}

/** How long others wait for the process that computes, before they compute themselves. */
const LOCK_WAITS_MS = [10, 20, 40, 80, 160];

function isFresh(entry: Entry, generations: readonly string[]): boolean {
  return entry.freshUntilMs > Date.now() && entry.generations.join() === generations.join();
}

/** Tags that stand for the whole cache of a tenant and for one scope of it: what they outdate is gone, not stale. */
export function clearingTag(scope: CacheScope | "everything"): string {
  return `all:${scope}`;
}

function nameOf({ scope, name }: CacheQuestion): string {
  return `${scope}:${name}`;
}

function entryKeyOf(question: CacheQuestion): string {
  return keys.cacheEntry(question.tenantId, nameOf(question));
}

/**
 * The entry, fresh or not, and the generations that stand now. One round trip when every tag has one. An entry from
 * before the cache was cleared is none.
 */
async function readEntry(redis: Redis, question: CacheQuestion) {
  const { tenantId, scope } = question;
  const clearing = [clearingTag("everything"), clearingTag(scope)];
  const allTags = [...clearing, ...question.tags];
  const tagKeys = allTags.map((tag) => keys.cacheTag(tenantId, tag));
  const [stored, ...current] = await redis.mget(entryKeyOf(question), ...tagKeys);
  const generations = current.some((generation) => generation === null)
    ? await readOrMakeGenerations(redis, tenantId, allTags)
    : (current as string[]);
  const entry = stored ? parseEntry(stored) : null;
  const cleared = clearing.some((_, index) => entry?.generations[index] !== generations[index]);
  return { entry: cleared ? null : entry, generations };
}

/** Null for what is no entry of ours: it is computed and stored anew. */
function parseEntry(stored: string): Entry | null {
  try {
    const entry = JSON.parse(stored) as Partial<Entry> | null;
    const whole = Array.isArray(entry?.generations) && "value" in entry && Number.isFinite(entry.madeAtMs);
    return whole ? (entry as Entry) : null;
  } catch {
    return null;
  }
}
