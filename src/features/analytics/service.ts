import { AppError } from "../../core/errors.ts";
import { sha256 } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import { type AnswersDeps, createAnswers } from "./answers.ts";
import { createBehaviourAnswers } from "./behaviour.ts";
import { createDesk, type DeskDeps, skips } from "./desk.ts";
import { measuresOf, ROW_METRICS } from "./measures.ts";
import { checkDimensions, granularityOf, type MetricsQuestion } from "./planner.ts";
import { createProductAnswers } from "./products.ts";
import type { BreakdownQuery, MetricsQueryBody, RangeQuery } from "./schema.ts";
import { GRANULARITIES } from "./schema.ts";
import { createSummaryAnswers } from "./summary.ts";
import { createSummaryStream, type SummaryPace } from "./summary-stream.ts";

export interface AnalyticsDeps extends AnswersDeps, DeskDeps {
  summaryPace?: SummaryPace;
}

export type AnalyticsService = ReturnType<typeof createAnalyticsService>;

/** Every answer comes through the tag cache, with a `meta` that says what it is worth; nearly all from rollups. */
export function createAnalyticsService(deps: AnalyticsDeps) {
  const desk = createDesk(deps, createAnswers(deps));
  const { answer, rangeOf, prepare } = desk;
  const summaries = createSummaryAnswers(desk);

  async function getUserSummary(ctx: RequestContext, userId: string, query: RangeQuery) {
    const range = await rangeOf(ctx, query);
    const measure = prepare(ctx, {
      range,
      metrics: [...ROW_METRICS, "activeDays"],
      dimensions: [],
      filters: { userId: [userId] },
    });
    const question = { name: `user:${userId}`, range, skipCache: skips(query) };
    return answer(ctx, { ...question, granularity: "day" }, async () => {
      const [row] = await measure();
      const measures = measuresOf(row);
      const totals = {
        events: Number(row?.events),
        ...measures,
        spend: measures.revenue,
        activeDays: Number(row?.activeDays),
      };
      return { userId, totals };
    });
  }

  return {
    ...createProductAnswers(desk),
    ...summaries,
    ...createBehaviourAnswers(desk, deps),
    followSummary: createSummaryStream(summaries.getSummary, deps.summaryPace),
    getUserSummary,

    async getMySummary(ctx: RequestContext, query: RangeQuery) {
      if (ctx.principal.kind !== "user")
        throw new AppError("forbidden", "Only a user has a summary of its own.");
      return getUserSummary(ctx, ctx.principal.userId, query);
    },

    async getBreakdown(ctx: RequestContext, query: BreakdownQuery) {
      const range = await rangeOf(ctx, query);
      const { property, sortBy, limit } = query;
      const measure = prepare(ctx, {
        range,
        metrics: ROW_METRICS,
        dimensions: ["property"],
        property,
        sort: { by: sortBy, direction: "desc" },
        limit,
      });
      const question = { name: `breakdown:${sortBy}:${limit}:${property}`, range, skipCache: skips(query) };
      return answer(ctx, { ...question, granularity: "day" }, async () => {
        const items = (await measure()).map(({ property: value = "", ...row }) => {
          return { value, events: Number(row.events), ...measuresOf(row) };
        });
        return { items };
      });
    },

    /** Any question that a rollup holds. Throws `invalid_input` for the others. */
    async queryMetrics(ctx: RequestContext, query: MetricsQueryBody) {
      const { metrics, dimensions, filters, property, sort, limit, skipCache } = query;
      const range = await rangeOf(
        ctx,
        { days: query.days, startDate: query.startDate, endDate: query.endDate },
        query.timeZone,
      );
      const asked: MetricsQuestion = { range, metrics, dimensions, filters, property, limit };
      const question = { ...asked, sort: sort ?? usualSort(asked) };
      checkDimensions(question);
      const measure = prepare(ctx, question);
      const name = `query:${sha256(JSON.stringify(question))}`;
      const granularity = granularityOf(dimensions);
      return answer(ctx, { name, range, granularity, skipCache }, async () => {
        const rows = (await measure()).map((row) => {
          const values = metrics.map((metric) => [metric, Number(row[metric])]);
          return { ...row, ...Object.fromEntries(values) } as Record<string, string | number>;
        });
        return { rows };
      });
    },
  };
}

function usualSort({ metrics, dimensions }: MetricsQuestion): MetricsQuestion["sort"] {
  if (dimensions.length === 0) return undefined;
  const time = GRANULARITIES.find((one) => dimensions.includes(one));
  if (time) return { by: time, direction: "asc" };
  return metrics[0] && { by: metrics[0], direction: "desc" };
}
