import type { Redis } from "ioredis";
import { JsonText } from "../core/json-text.ts";
import { isAway } from "../db/failures.ts";
import { isOverload } from "../resilience/read-guard.ts";
import type { RedisGuard } from "../resilience/redis-guard.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { createComputationLocks } from "./computation-lock.ts";
import { createEntries, type EntryBounds, entryKeyOf, type Found } from "./entries.ts";
import { type Entry, makeEntry } from "./entry.ts";

/**
 * Tag cache by generations: a tag is one key that holds a random generation. A value stores the
 * generations that it was computed under, read *before* computing. A hit needs all of them
 * unchanged, so a value older than a later commit is never a hit: that commit deleted the tag.
 * Where the question tolerates it, an outdated value is served as `stale`. While Redis is away,
 * every answer is computed. See docs/cache.md.
 */
export const CACHE_SCOPES = ["analytics", "products", "orders"] as const;
export type CacheScope = (typeof CACHE_SCOPES)[number];

export interface CacheQuestion {
  tenantId: string;
  /** What the tenant can clear, and count, by itself. */
  scope: CacheScope;
  /**
   * Identifies the question inside tenant and scope. Everything that changes the answer must be in
   * it.
   */
  name: string;
  tags: readonly string[];
  ttlSeconds: number;
  /** Compute, and store the fresh answer for the others. */
  skipRead?: boolean;
  /**
   * Whether an outdated answer that says so will do, for a moment (see StaleTolerance) or while
   * nothing can be computed. Without it nothing stale is ever served.
   */
  toleratesStale?: boolean;
  /**
   * One of endlessly many questions (a free filter, a place in a list): computed each time and
   * never stored.
   */
  uncached?: boolean;
}

export interface CacheAnswer<T> {
  content: JsonText<T>;
  /** What the content says, parsed. */
  readonly value: T;
  /** When computing began, in ms: it holds everything that was committed before. */
  asOfMs: number;
  outcome: "hit" | "miss" | "stale";
  /** Why it is stale: outdated a moment ago, Postgres is away, or there is too much to do. */
  reason?: "revalidating" | "unavailable" | "overloaded";
}

/** Why what can't be computed now may be answered from before. */
export type StandIn = "unavailable" | "overloaded";

/**
 * How old a stale answer may be, and up to which age it is not even computed anew, in ms. Both
 * change with the load.
 */
export interface StaleTolerance {
  staleMs: number;
  restMs: number;
}

export interface Cache {
  getOrCompute<T>(question: CacheQuestion, compute: () => Promise<T>): Promise<CacheAnswer<T>>;
  /**
   * A hit, or a stale answer that is young enough for now; null when there is neither. With
   * `failure`, the reason why nothing can be computed, any age will do.
   */
  peek<T>(question: CacheQuestion, failure?: StandIn): Promise<CacheAnswer<T> | null>;
}

export interface CacheOptions {
  tolerance?: () => StaleTolerance;
  /** Hears of every read. */
  onRead?: (tenantId: string, scope: CacheScope, outcome: CacheAnswer<unknown>["outcome"]) => void;
  /** Bounds: what the process holds itself, one entry, and one tenant's entries in Redis. */
  bounds?: Partial<EntryBounds>;
}

/** Nobody is served anything stale unless the caller says so. */
const STRICT: StaleTolerance = { staleMs: 0, restMs: 0 };
/** How long an answer that may be served stale outlives its freshness. */
const KEEP_SECONDS = 3_600;
const MIB = 1024 * 1024;
/**
 * Held entries: some two hundred years by day, which is what dashboards ask for at one time. The
 * process must stay below 250 MB.
 */
const BOUNDS: EntryBounds = { heldBytes: 32 * MIB, entryBytes: MIB, tenantBytes: 32 * MIB };

export function createCache(
  redis: Redis,
  guard: RedisGuard,
  metrics: Metrics,
  { tolerance = () => STRICT, onRead = () => {}, bounds = {} }: CacheOptions = {},
): Cache {
  const inFlight = new Map<string, Promise<unknown>>();
  const locks = createComputationLocks(redis, guard);
  const entries = createEntries(redis, guard, { ...BOUNDS, ...bounds });
  // A series looked up by its labels costs more than the increment.
  const reads = {
    hit: metrics.cacheReads.labels("hit"),
    miss: metrics.cacheReads.labels("miss"),
    stale: metrics.cacheReads.labels("stale"),
  };

  async function once<T>(flight: string, work: () => Promise<T>): Promise<T> {
    const running = inFlight.get(flight);
    if (running) return running as Promise<T>;
    const started = work().finally(() => inFlight.delete(flight));
    inFlight.set(flight, started);
    return started;
  }

  function note<T>({ tenantId, scope }: CacheQuestion, answer: CacheAnswer<T>): CacheAnswer<T> {
    reads[answer.outcome].inc();
    onRead(tenantId, scope, answer.outcome);
    return answer;
  }

  /** Computes and stores; of several processes one, unless that one takes long. */
  async function refresh<T>(
    question: CacheQuestion,
    generations: string[],
    compute: () => Promise<T>,
  ): Promise<CacheAnswer<T>> {
    // The name of the shared computation contains the generations, so nobody who asks after an
    // invalidation joins an older one.
    return once(`${entryKeyOf(question)} ${generations.join()}`, async () => {
      const lock = await locks.acquire(question.tenantId, `${question.scope}:${question.name}`, generations);
      if (lock === null && !question.skipRead) {
        const found = await waitForEntry(question, generations);
        if (found) return answerOf<T>(found, "hit");
      }
      try {
        const { content, asOfMs } = await computeNow(compute);
        const madeAtMs = Date.now();
        const freshUntilMs = madeAtMs + question.ttlSeconds * 1_000;
        const entry = makeEntry({ generations, asOfMs, madeAtMs, freshUntilMs }, content);
        const { ttlSeconds: freshSeconds, toleratesStale } = question;
        const keepSeconds = toleratesStale ? freshSeconds + KEEP_SECONDS : freshSeconds;
        entries.store(question, entry, { freshSeconds, keepSeconds }).then(
          (stored) => stored || metrics.cacheRefusals.inc(),
          () => metrics.redisFallbacks.inc({ operation: "cache" }),
        );
        return answerOf<T>(entry, "miss");
      } finally {
        if (lock) locks.release(lock);
      }
    });
  }

  /** The answer that another process computes, if it comes soon and fits these generations. */
  async function waitForEntry(question: CacheQuestion, generations: string[]): Promise<Entry | null> {
    for (const waitMs of LOCK_WAITS_MS) {
      await Bun.sleep(waitMs);
      const found = await entries.look(question).catch(() => null);
      if (!found || found.generations.join() !== generations.join()) return null;
      if (isFresh(found)) return found.entry;
    }
    return null;
  }

  return {
    async peek<T>(question: CacheQuestion, failure?: StandIn): Promise<CacheAnswer<T> | null> {
      if (question.skipRead || question.uncached) return null;
      const found = await entries.look(question).catch(() => null);
      if (!found?.entry) return null;
      if (isFresh(found)) return note(question, answerOf<T>(found.entry, "hit"));
      if (failure === undefined && ageOf(found.entry) >= tolerance().staleMs) return null;
      return note(question, answerOf<T>(found.entry, "stale", failure ?? "overloaded"));
    },

    async getOrCompute<T>(question: CacheQuestion, compute: () => Promise<T>): Promise<CacheAnswer<T>> {
      const { skipRead = false, toleratesStale = false, uncached = false } = question;
      if (uncached) return note(question, answerOf<T>(await computeNow(compute), "miss"));
      let found: Found;
      try {
        found = await entries.look(question);
      } catch {
        metrics.redisFallbacks.inc({ operation: "cache" });
        const work = () => computeNow(compute);
        // This name does not tell a computation from before a commit from one after it. So only
        // callers that tolerate the older answer join.
        const made = toleratesStale ? await once(entryKeyOf(question), work) : await work();
        return note(question, answerOf<T>(made, "miss"));
      }
      const { entry, generations } = found;
      if (entry && !skipRead) {
        if (isFresh(found)) return note(question, answerOf<T>(entry, "hit"));
        const { staleMs, restMs } = toleratesStale ? tolerance() : STRICT;
        const ageMs = ageOf(entry);
        if (ageMs < staleMs) {
          // Nobody waits for it; should it fail, the next one who asks tries again.
          if (ageMs >= restMs) refresh(question, generations, compute).catch(() => {});
          return note(question, answerOf<T>(entry, "stale", "revalidating"));
        }
      }
      try {
        return note(question, await refresh(question, generations, compute));
      } catch (error) {
        const reason = standInFor(error);
        if (!entry || skipRead || !toleratesStale || reason === null) throw error;
        return note(question, answerOf<T>(entry, "stale", reason));
      }
    },
  };
}

/** Null for what would fail again: an answer from before would only hide it. */
export function standInFor(error: unknown): StandIn | null {
  return isAway(error) ? "unavailable" : isOverload(error) ? "overloaded" : null;
}

/** How long others wait for the process that computes, before they compute themselves. */
const LOCK_WAITS_MS = [10, 20, 40, 80, 160];

function isFresh({ entry, isCurrent }: Found): boolean {
  return isCurrent && entry !== null && entry.freshUntilMs > Date.now();
}

/** Another process may be ahead by its clock. */
function ageOf(entry: Entry): number {
  return Math.max(0, Date.now() - entry.madeAtMs);
}

type Made = Pick<Entry, "content" | "asOfMs">;

async function computeNow(compute: () => Promise<unknown>): Promise<Made> {
  const asOfMs = Date.now();
  return { content: JsonText.of(await compute()), asOfMs };
}

function answerOf<T>(
  { content, asOfMs }: Made,
  outcome: CacheAnswer<T>["outcome"],
  reason?: CacheAnswer<T>["reason"],
): CacheAnswer<T> {
  return {
    content: content as JsonText<T>,
    get value() {
      return content.value as T;
    },
    asOfMs,
    outcome,
    reason,
  };
}
