import type { Cache } from "../../cache/cache.ts";
import { analyticsTagsOfDays } from "../../cache/tags.ts";
import { ttlSeconds } from "../../cache/tiers.ts";
import { addDays, type Day } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { createLagReader } from "./lag.ts";
import type { Range } from "./range.ts";
import type { Granularity, Meta } from "./schema.ts";

export interface Question {
  /** Everything that changes the answer, beside range and granularity. */
  name: string;
  range: Range;
  granularity: Granularity;
  skipCache: boolean;
  /** Beside those of the range's months. */
  tags?: readonly string[];
}

type Cached<T> = { answer: T; asOf: string };

export type AnswerQuestion = ReturnType<typeof createAnswers>;

/** Answers go through the tag cache, with a `meta` that says what they are worth. */
export function createAnswers({ sql, cache }: { sql: Sql; cache: Cache }) {
  const readLagMs = createLagReader(sql);

  return async function answer<T extends object>(
    ctx: RequestContext,
    question: Question,
    compute: () => Promise<T>,
  ): Promise<T & { meta: Meta }> {
    const { range, granularity, name } = question;
    const { from, to, timeZone } = range;
    if (question.skipCache && !maySkipCache(ctx))
      throw new AppError("forbidden", "skipCache is for admins, analysts and keys.");
    const { value, outcome } = await cache.getOrCompute<Cached<T>>(
      {
        tenantId: ctx.tenantId,
        name: `${name}:${from}:${to}:${timeZone}:${granularity}`,
        // A day of any zone is at most a day away from the same day of the tenant's zone.
        tags: [...analyticsTagsOfDays(addDays(from, -1), addDays(to, 1)), ...(question.tags ?? [])],
        ttlSeconds: ttlSeconds(endOfDayMs(to), Date.now()),
        skipRead: question.skipCache,
      },
      async () => {
        const asOf = new Date().toISOString();
        return { answer: await compute(), asOf };
      },
    );
    const { asOf } = value;
    const lagMs = await readLagMs(ctx.tenantId);
    return {
      ...value.answer,
      meta: { from, to, timeZone, asOf, lagMs, cache: outcome, degraded: false, granularity },
    };
  };
}

/** The latest instant at which a day can end anywhere: twelve hours after it ends in UTC. */
function endOfDayMs(day: Day): number {
  return Date.parse(day) + 36 * 3_600_000;
}

function maySkipCache({ principal }: RequestContext): boolean {
  return principal.kind !== "user" || principal.role === "admin" || principal.role === "analyst";
}
