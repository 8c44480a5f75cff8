import { addDays, countDays, type Day } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import { type AnswersDeps, createAnswers, type Question } from "./answers.ts";
import { addCells, NO_COUNTS, toMeasures } from "./measures.ts";
import { badRange, hoursAlign, type Range, resolveRange } from "./range.ts";
import * as repository from "./repository.ts";
import type { BreakdownQuery, RangeQuery, SummaryQuery, TopQuery } from "./schema.ts";

export interface AnalyticsDeps extends AnswersDeps {
  readTenantSettings: ReadTenantSettings;
}

export type AnalyticsService = ReturnType<typeof createAnalyticsService>;

/** An hourly series longer than this is asked for in parts. */
const MAX_HOURLY_DAYS = 93;
/** How far a question may go that only raw events can answer. */
const MAX_RAW_DAYS = 93;

/** Every answer comes from rollups, through the tag cache, with a `meta` that says what it is worth. */
export function createAnalyticsService(deps: AnalyticsDeps) {
  const { sql, readTenantSettings } = deps;
  const answer = createAnswers(deps);

  async function rangeOf(ctx: RequestContext, query: RangeQuery, timeZone?: string): Promise<Range> {
    const settings = await readTenantSettings(ctx.tenantId);
    return resolveRange(query, timeZone ?? settings.timeZone, Date.now());
  }

  const skips = (query: RangeQuery) => query.skipCache === "true";

  async function summarizeUser(ctx: RequestContext, userId: string, query: RangeQuery) {
    const range = await rangeOf(ctx, query);
    const question: Question = { name: `user:${userId}`, range, granularity: "day", skipCache: skips(query) };
    return answer(ctx, question, async () => {
      const row = await repository.selectUserTotals(sql, ctx.tenantId, range, userId);
      const measures = toMeasures(row ?? NO_COUNTS);
      const totals = {
        events: row?.events ?? 0,
        ...measures,
        spend: measures.revenue,
        activeDays: row?.activeDays ?? 0,
      };
      return { userId, totals };
    });
  }

  return {
    async getTopProducts(ctx: RequestContext, query: TopQuery) {
      const range = await rangeOf(ctx, query);
      const { sortBy, limit } = query;
      const question: Question = {
        name: `top:${sortBy}:${limit}`,
        range,
        granularity: "day",
        skipCache: skips(query),
      };
      return answer(ctx, question, async () => {
        const rows = await repository.selectTopProducts(sql, ctx.tenantId, range, sortBy, limit);
        return { items: rows.map((row) => ({ productId: row.productId, name: null, ...toMeasures(row) })) };
      });
    },

    async getProductTimeseries(ctx: RequestContext, productId: string, query: RangeQuery) {
      const range = await rangeOf(ctx, query);
      const question: Question = {
        name: `timeseries:${productId}`,
        range,
        granularity: "day",
        skipCache: skips(query),
      };
      return answer(ctx, question, async () => {
        const rows = await repository.selectProductDays(sql, ctx.tenantId, range, productId);
        const byDay = new Map(rows.map((row) => [row.day, row]));
        const points = daysOf(range).map((day) => ({ day, ...toMeasures(byDay.get(day) ?? NO_COUNTS) }));
        return { productId, points };
      });
    },

    async getMySummary(ctx: RequestContext, query: RangeQuery) {
      if (ctx.principal.kind !== "user")
        throw new AppError("forbidden", "Only a user has a summary of its own.");
      return summarizeUser(ctx, ctx.principal.userId, query);
    },

    getUserSummary: summarizeUser,

    async getBreakdown(ctx: RequestContext, query: BreakdownQuery) {
      const range = await rangeOf(ctx, query);
      const { property, sortBy, limit } = query;
      const name = `breakdown:${sortBy}:${limit}:${property}`;
      return answer(ctx, { name, range, granularity: "day", skipCache: skips(query) }, async () => {
        const rows = await repository.selectBreakdown(sql, ctx.tenantId, range, property, sortBy, limit);
        return { items: rows.map((row) => ({ value: row.value, events: row.events, ...toMeasures(row) })) };
      });
    },

    /** In another time zone than the tenant's, unique users (and fractional-hour buckets) are counted from raw events. */
    async getSummary(ctx: RequestContext, query: SummaryQuery) {
      const settings = await readTenantSettings(ctx.tenantId);
      const range = await rangeOf(ctx, query, query.timeZone);
      const { groupBy } = query;
      const length = countDays(range.from, range.to);
      if (groupBy === "hour" && length > MAX_HOURLY_DAYS)
        throw badRange("groupBy", `hours for at most ${MAX_HOURLY_DAYS} days`);
      const ownZone = range.timeZone === settings.timeZone;
      if (!ownZone && length > MAX_RAW_DAYS)
        throw badRange("timeZone", `another time zone for at most ${MAX_RAW_DAYS} days`);
      const fromRollup = ownZone || hoursAlign(range, settings.timeZone);
      const { tenantId } = ctx;
      const question: Question = {
        name: "summary",
        range,
        granularity: groupBy,
        skipCache: skips(query),
        mayCoarsen: true,
      };
      return answer(ctx, question, async (granularity) => {
        const [cells, starts, audience] = await Promise.all([
          fromRollup
            ? repository.selectBucketsFromRollup(sql, tenantId, range, granularity)
            : repository.selectBucketsFromEvents(sql, tenantId, range, granularity),
          repository.selectBucketStarts(sql, range, granularity),
          ownZone
            ? repository.selectAudienceFromRollup(sql, tenantId, range)
            : repository.selectAudienceFromEvents(sql, tenantId, range),
        ]);
        return summarize(cells, starts, audience);
      });
    },
  };
}

function summarize(
  cells: readonly repository.BucketCell[],
  starts: readonly string[],
  audience: repository.Audience,
) {
  const byBucket = Map.groupBy(cells, (cell) => cell.bucket);
  const series = starts.map((bucket) => {
    const { events, counts } = addCells(byBucket.get(bucket) ?? []);
    return { bucket, events, ...toMeasures(counts) };
  });
  const byType = [...Map.groupBy(cells, (cell) => cell.type)]
    .map(([type, ofType]) => ({ type, events: addCells(ofType).events }))
    .sort((a, b) => b.events - a.events || (a.type < b.type ? -1 : 1));
  const { events, counts } = addCells(cells);
  return { totals: { events, ...audience, ...toMeasures(counts) }, byType, series };
}

function daysOf({ from, to }: Range): Day[] {
  return Array.from({ length: countDays(from, to) }, (_, index) => addDays(from, index));
}
