import { sha256 } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import { type Desk, skips } from "./desk.ts";
import { cutPage, readStart } from "./keyset.ts";
import type { KnownProperties } from "./known-properties.ts";
import { measuresOf, ROW_METRICS } from "./measures.ts";
import { checkDimensions, granularityOf, type MetricsQuestion } from "./planner.ts";
import { type BreakdownQuery, GRANULARITIES, type MetricsQueryBody } from "./schema.ts";

/**
 * Questions that may have more rows than one answer shows: each says whether it is cut, and where
 * it goes on.
 */
export function createQuestionAnswers({ answer, rangeOf, prepare }: Desk, known: KnownProperties) {
  return {
    async getBreakdown(ctx: RequestContext, query: BreakdownQuery) {
      const { property, sortBy, limit, cursor, days, startDate, endDate } = query;
      await known.require(ctx, property);
      const asked = { dimensions: ["property"], sort: { by: sortBy, direction: "desc" } } as const;
      const bound = { breakdown: property, sortBy, days, startDate, endDate };
      const start = readStart(bound, cursor, asked);
      const range = await rangeOf(ctx, start ? { startDate: start.from, endDate: start.to } : query);
      const measure = prepare(ctx, {
        ...{ ...asked, range, metrics: ROW_METRICS, property },
        ...{ limit: limit + 1, after: start?.after },
      });
      const name = `breakdown:${sha256(JSON.stringify([bound, limit, start]))}`;
      return answer(ctx, { name, range, granularity: "day", skipCache: skips(query) }, async () => {
        const [measured, notes] = await Promise.all([measure(), known.notesOf(ctx.tenantId, property)]);
        const { shown, ...rest } = cutPage(measured, limit, { bound, range, asked });
        const items = shown.map(({ property: value = "", ...row }) => {
          return { value, events: Number(row.events), ...measuresOf(row) };
        });
        return { items, ...rest, ...notes };
      });
    },

    /** Any question that a rollup holds. Throws `invalid_input` for the others. */
    async queryMetrics(ctx: RequestContext, query: MetricsQueryBody) {
      const { limit, cursor, skipCache, days, startDate, endDate, timeZone, ...asked } = query;
      const sort = asked.sort ?? usualSort(asked);
      const bound = { ...asked, sort, days, startDate, endDate, timeZone };
      const start = readStart(bound, cursor, { ...asked, sort });
      const given = start ? { startDate: start.from, endDate: start.to } : { days, startDate, endDate };
      const range = await rangeOf(ctx, given, timeZone);
      const question: MetricsQuestion = { ...asked, sort, range, limit: limit + 1, after: start?.after };
      checkDimensions(question);
      const { property } = asked;
      if (property !== undefined) await known.require(ctx, property);
      const measure = prepare(ctx, question);
      // With the texts of the range: the cursor in the answer is bound to them.
      const name = `query:${sha256(JSON.stringify([question, bound]))}`;
      const granularity = granularityOf(asked.dimensions);
      return answer(ctx, { name, range, granularity, skipCache }, async () => {
        const notes = property === undefined ? {} : await known.notesOf(ctx.tenantId, property);
        const { shown, ...rest } = cutPage(await measure(), limit, { bound, range, asked: question });
        const rows = shown.map((row) => {
          const values = asked.metrics.map((metric) => [metric, Number(row[metric])]);
          return { ...row, ...Object.fromEntries(values) } as Record<string, string | number>;
        });
        return { rows, ...rest, ...notes };
      });
    },
  };
}

/** The newest first: what is cut off is then the oldest. */
function usualSort({
  metrics,
  dimensions,
}: Pick<MetricsQuestion, "metrics" | "dimensions">): MetricsQuestion["sort"] {
  if (dimensions.length === 0) return undefined;
  const time = GRANULARITIES.find((one) => dimensions.includes(one));
  if (time) return { by: time, direction: "desc" };
  return metrics[0] && { by: metrics[0], direction: "desc" };
}
