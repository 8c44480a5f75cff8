import { type Cache, type CacheQuestion, standInFor } from "../../cache/cache.ts";
import { analyticsTagsOfDays } from "../../cache/tags.ts";
import { ttlSeconds } from "../../cache/tiers.ts";
import { addDays, type Day } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import type { JsonText, PreparedJson } from "../../core/json-text.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { LoadMonitor } from "../../resilience/load-level.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import { readOldestWaiting } from "../rollups/index.ts";
import type { Meta } from "./answer-schema.ts";
import { createLagReader } from "./lag.ts";
import { type Noted, withNotes } from "./notes.ts";
import type { Range } from "./range.ts";
import type { Granularity } from "./schema.ts";

export interface Question {
  /** Everything that changes the answer, beside range and granularity. */
  name: string;
  range: Range;
  granularity: Granularity;
  skipCache: boolean;
  /**
   * The days that `meta` names, where the answer depends on more than those; those of `range`
   * unless given.
   */
  shown?: Pick<Range, "from" | "to">;
  /** How long it is fresh, where that does not follow from the age of the range. */
  freshSeconds?: number;
  /** Beside those of the range's months. */
  tags?: readonly string[];
  /** See CacheQuestion. */
  uncached?: boolean;
  /** Under load, the same may be answered at a coarser granularity. */
  mayCoarsen?: boolean;
}

export interface AnswersDeps {
  lookUps: Sql;
  cache: Cache;
  readGuard: ReadGuard;
  load: Pick<LoadMonitor, "atLeast">;
}

/** An answer, which is not looked into, and what it is worth. */
export interface Answer<T extends object> extends PreparedJson<T & { meta: Meta }> {
  /** Without `meta`, which moves with every look. */
  content: JsonText<T>;
  meta: Meta;
}

export type AnswerQuestion = ReturnType<typeof createAnswers>;

const COARSER: Record<Granularity, Granularity> = { hour: "day", day: "week", week: "month", month: "month" };

/**
 * Answers go through the tag cache and the guard before Postgres; `meta` tells outcome and age.
 * What can't be computed now is answered by an older answer, as `stale`. Under load, what is not
 * cached is computed coarser.
 */
export function createAnswers({ lookUps, cache, readGuard, load }: AnswersDeps) {
  const readLagMs = createLagReader((tenantId) =>
    readGuard.lookUp(() => readOldestWaiting(lookUps, tenantId)),
  );

  return async function answer<T extends object>(
    ctx: RequestContext,
    question: Question,
    compute: (granularity: Granularity) => Promise<T>,
  ): Promise<Answer<Noted<T>>> {
    const { range, granularity: requested, skipCache } = question;
    const { from, to, timeZone, ownZone } = range;
    const { shown = range } = question;
    if (skipCache && !maySkipCache(ctx))
      throw new AppError("forbidden", "skipCache is for admins, analysts and keys.");
    const ask = (granularity: Granularity): CacheQuestion => ({
      tenantId: ctx.tenantId,
      scope: "analytics",
      // A process that still remembers a changed zone reads the new rollups by the old one. The
      // name keeps such answers apart.
      name: `${question.name}:${from}:${to}:${timeZone}:${ownZone}:${granularity}`,
      // A day of any zone is at most one day away from the same day of the tenant's zone.
      tags: [...analyticsTagsOfDays(addDays(from, -1), addDays(to, 1)), ...(question.tags ?? [])],
      ttlSeconds: question.freshSeconds ?? ttlSeconds(endOfDayMs(to), Date.now()),
      skipRead: skipCache,
      toleratesStale: true,
      uncached: question.uncached ?? false,
    });
    const find = async (granularity: Granularity) => {
      const work = () => readGuard.run(async () => withNotes(await compute(granularity)), ctx);
      return { granularity, found: await cache.getOrCompute<Noted<T>>(ask(granularity), work) };
    };
    const findUnderLoad = async () => {
      const atHand = await cache.peek<Noted<T>>(ask(requested));
      if (atHand) return { granularity: requested, found: atHand };
      try {
        return await find(COARSER[requested]);
      } catch (error) {
        const failure = standInFor(error);
        const last = failure && (await cache.peek<Noted<T>>(ask(requested), failure));
        if (!last) throw error;
        return { granularity: requested, found: last };
      }
    };
    const isLoaded = question.mayCoarsen && load.atLeast("coarse");
    const { granularity, found } = isLoaded ? await findUnderLoad() : await find(requested);
    const { content, outcome, reason, asOfMs } = found;
    const ageMs = outcome === "stale" ? Date.now() - asOfMs : 0;
    const coarser = granularity !== requested;
    const meta: Meta = {
      from: shown.from,
      to: shown.to,
      timeZone,
      asOf: new Date(asOfMs).toISOString(),
      lagMs: Math.max(ageMs, await readLagMs(ctx.tenantId)),
      cache: outcome,
      degraded: coarser,
      granularity,
    };
    if (coarser) meta.requestedGranularity = requested;
    if (coarser || reason) meta.reason = reason ?? "overloaded";
    return toAnswer(content, meta);
  };
}

export function toAnswer<T extends object>(content: JsonText<T>, meta: Meta): Answer<T> {
  return {
    ...content.extendedBy("meta", JSON.stringify(meta)),
    content,
    meta,
    get value() {
      return { ...content.value, meta };
    },
  };
}

/** The latest instant at which a day can end anywhere: twelve hours after it ends in UTC. */
function endOfDayMs(day: Day): number {
  return Date.parse(day) + 36 * 3_600_000;
}

function maySkipCache({ principal }: RequestContext): boolean {
  return principal.kind !== "user" || principal.role === "admin" || principal.role === "analyst";
}
