import type { Redis } from "ioredis";
import { keys } from "../redis/keys.ts";
import type { RedisGuard } from "../resilience/redis-guard.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { readOrMakeGenerations } from "./tags.ts";

/**
 * Tag cache by generations. A tag is one key holding a random generation; a value stores the generations it was
 * computed under, read *before* computing. A hit needs all of them unchanged, so a value computed from a snapshot that
 * a later commit has outdated can't be served: that commit deleted the tag, whenever the value was stored.
 * Redis away means computing every time, never failing.
 */
export interface CacheQuestion {
  tenantId: string;
  /** Identifies the question inside the tenant; everything that changes the answer must be in it. */
  name: string;
  tags: readonly string[];
  ttlSeconds: number;
  /** Compute, and store the fresh answer for the others. */
  skipRead?: boolean;
}

export interface CacheAnswer<T> {
  value: T;
  outcome: "hit" | "miss";
}

export interface Cache {
  getOrCompute<T>(question: CacheQuestion, compute: () => Promise<T>): Promise<CacheAnswer<T>>;
}

interface Entry {
  generations: string[];
  value: unknown;
}

export function createCache(redis: Redis, guard: RedisGuard, metrics: Metrics): Cache {
  const inFlight = new Map<string, Promise<unknown>>();

  async function computeOnce<T>(flight: string, compute: () => Promise<T>): Promise<T> {
    const running = inFlight.get(flight);
    if (running) return running as Promise<T>;
    const started = compute().finally(() => inFlight.delete(flight));
    inFlight.set(flight, started);
    return started;
  }

  return {
    async getOrCompute<T>(question: CacheQuestion, compute: () => Promise<T>): Promise<CacheAnswer<T>> {
      const entryKey = keys.cacheEntry(question.tenantId, question.name);
      let generations: string[];
      try {
        const found = await guard.run(() => readEntry(redis, entryKey, question));
        if (found.entry && !question.skipRead) {
          metrics.cacheReads.inc({ outcome: "hit" });
          return { value: found.entry.value as T, outcome: "hit" };
        }
        generations = found.generations;
      } catch {
        metrics.redisFallbacks.inc({ operation: "cache" });
        return { value: await computeOnce(entryKey, compute), outcome: "miss" };
      }
      metrics.cacheReads.inc({ outcome: "miss" });
      // The generations are part of the flight's name: whoever asks after an invalidation never joins an older flight.
      const value = await computeOnce(`${entryKey} ${generations.join()}`, async () => {
        const computed = await compute();
        const entry: Entry = { generations, value: computed };
        redis.set(entryKey, JSON.stringify(entry), "EX", question.ttlSeconds).catch(() => {
          metrics.redisFallbacks.inc({ operation: "cache" });
        });
        return computed;
      });
      return { value, outcome: "miss" };
    },
  };
}

/** The entry if it is still valid, and the generations that stand now. One round trip when every tag has one. */
async function readEntry(redis: Redis, entryKey: string, question: CacheQuestion) {
  const tagKeys = question.tags.map((tag) => keys.cacheTag(question.tenantId, tag));
  const [stored, ...current] = await redis.mget(entryKey, ...tagKeys);
  if (current.some((generation) => generation === null)) {
    return { entry: null, generations: await readOrMakeGenerations(redis, question.tenantId, question.tags) };
  }
  const generations = current as string[];
  const entry = stored ? parseEntry(stored) : null;
  const valid = entry !== null && entry.generations.join() === generations.join();
  return { entry: valid ? entry : null, generations };
}

/** Null for what is no entry of ours: it is computed and stored anew. */
function parseEntry(stored: string): Entry | null {
  try {
    const entry = JSON.parse(stored) as Partial<Entry> | null;
    return Array.isArray(entry?.generations) && "value" in entry ? (entry as Entry) : null;
  } catch {
    return null;
  }
}
