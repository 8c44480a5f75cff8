import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import { type AnswersDeps, createAnswers } from "./answers.ts";
import { createBehaviourAnswers } from "./behaviour.ts";
import { createDesk, type DeskDeps, skips } from "./desk.ts";
import { createEventProperties } from "./event-properties.ts";
import { createKnownProperties } from "./known-properties.ts";
import { measuresOf, ROW_METRICS } from "./measures.ts";
import { createProductAnswers } from "./products.ts";
import { createQuestionAnswers } from "./questions.ts";
import type { RangeQuery } from "./schema.ts";
import { createSummaryAnswers } from "./summary.ts";
import { createSummaryStream, type SummaryPace } from "./summary-stream.ts";

export interface AnalyticsDeps extends AnswersDeps, DeskDeps {
  summaryPace?: SummaryPace;
}

export type AnalyticsService = ReturnType<typeof createAnalyticsService>;

/**
 * Every answer comes through the tag cache with a `meta` that tells outcome and age. Nearly all
 * come from rollups.
 */
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
    ...createQuestionAnswers(desk, createKnownProperties(deps)),
    ...createEventProperties(deps),
    followSummary: createSummaryStream(summaries.getSummary, deps.summaryPace),
    getUserSummary,

    async getMySummary(ctx: RequestContext, query: RangeQuery) {
      if (ctx.principal.kind !== "user")
        throw new AppError("forbidden", "Only a user has a summary of its own.");
      return getUserSummary(ctx, ctx.principal.userId, query);
    },
  };
}
