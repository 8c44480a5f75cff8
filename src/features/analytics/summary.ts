import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { isDay } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { JsonText } from "../../core/json-text.ts";
import type { RequestContext } from "../../core/principal.ts";
import { type Change, type Meta, type SummaryContent, TOTAL_NAMES, type Totals } from "./answer-schema.ts";
import { type Answer, toAnswer } from "./answers.ts";
import { type Desk, skips } from "./desk.ts";
import { addCells, CELL_METRICS, type TypeCell } from "./measures.ts";
import { withNotes } from "./notes.ts";
import { type Range, rangeBefore } from "./range.ts";
import { type MetricsRow, selectBucketStarts } from "./repository.ts";
import type { Granularity, SummaryPageQuery, SummaryQuery } from "./schema.ts";

/**
 * The whole shop, bucket by bucket. In another time zone than the tenant's, unique users (and
 * buckets of hours that do not align) are counted from raw events; the planner bounds how far.
 */
export function createSummaryAnswers({ sql, answer, rangeOf, prepare }: Desk) {
  function prepareSeries(ctx: RequestContext, range: Range, groupBy: Granularity) {
    const measure = prepare(ctx, { range, metrics: CELL_METRICS, dimensions: [groupBy, "type"] });
    const readUsers = prepareUsers(ctx, range, groupBy);
    return async () => {
      const [rows, starts, usersAt] = await Promise.all([
        measure(),
        selectBucketStarts(sql, range, groupBy),
        readUsers(),
      ]);
      const cells = rows as (MetricsRow & TypeCell)[];
      const byBucket = Map.groupBy(cells, (cell) => cell[groupBy]);
      const series = starts.map((bucket) => {
        const { events, measures } = addCells(byBucket.get(bucket) ?? []);
        return { bucket, events, ...usersAt(bucket), ...measures };
      });
      return { cells, series };
    };
  }

  /**
   * The users of each bucket. They are unknown by the hour, and on another clock than the tenant's.
   */
  function prepareUsers(ctx: RequestContext, range: Range, groupBy: Granularity) {
    if (groupBy === "hour" || range.timeZone !== range.ownZone) return async () => () => UNKNOWN_USERS;
    const measure = prepare(ctx, { range, metrics: USER_METRICS, dimensions: [groupBy] });
    return async () => {
      const byBucket = new Map((await measure()).map((row) => [row[groupBy], row]));
      return (bucket: string) => usersOf(byBucket.get(bucket));
    };
  }

  function prepareAudience(ctx: RequestContext, range: Range) {
    const measure = prepare(ctx, { range, metrics: [...USER_METRICS, "sessions"], dimensions: [] });
    return async () => {
      const [row] = await measure();
      return { ...usersOf(row), sessions: Number(row?.sessions) };
    };
  }

  async function summarize(ctx: RequestContext, range: Range, groupBy: Granularity, skipCache: boolean) {
    const plan = () => [prepareSeries(ctx, range, groupBy), prepareAudience(ctx, range)] as const;
    // On the tenant's own clock there is always a plan, and making it costs as much as all the rest
    // of a hit.
    const planned = range.timeZone === range.ownZone ? null : plan();
    const question = { name: "summary", range, granularity: groupBy, skipCache, mayCoarsen: true };
    return answer(ctx, question, async (granularity) => {
      const [asRequested, countAudience] = planned ?? plan();
      const measureSeries = granularity === groupBy ? asRequested : prepareSeries(ctx, range, granularity);
      const [{ cells, series }, audience] = await Promise.all([measureSeries(), countAudience()]);
      const byType = [...Map.groupBy(cells, (cell) => cell.type)]
        .map(([type, ofType]) => ({ type, events: addCells(ofType).events }))
        .sort((a, b) => b.events - a.events || (a.type < b.type ? -1 : 1));
      const { events, measures } = addCells(cells);
      return { totals: { events, ...audience, ...measures }, byType, series };
    });
  }

  return {
    async getSummary(ctx: RequestContext, query: SummaryQuery): Promise<Answer<SummaryContent>> {
      const range = await rangeOf(ctx, query, query.timeZone);
      const asked = (of: Range) => summarize(ctx, of, query.groupBy, skips(query));
      if (query.compare === undefined) return asked(range);
      const before = rangeBefore(range);
      const [now, then] = await Promise.all([asked(range), asked(before)]);
      const [summary, { totals }] = [now.content.value, then.content.value];
      const { from, to } = before;
      const previous = { from, to, totals, change: changeOf(totals, summary.totals) };
      return toAnswer(JsonText.of(withNotes({ ...summary, previous })), worst(now.meta, then.meta));
    },

    /** The series in pages, the oldest bucket first; a cursor keeps the range of the first page. */
    async getSummaryPage(ctx: RequestContext, query: SummaryPageQuery) {
      const { limit, cursor, skipCache, ...filters } = query;
      const [from, to, last = ""] = cursor === undefined ? [] : decodeCursor(filters, cursor, 3);
      if (cursor !== undefined && !(isDay(from ?? "") && isDay(to ?? "")))
        throw new AppError("invalid_input", "The cursor is not valid.");
      const range = await rangeOf(
        ctx,
        cursor === undefined ? query : { startDate: from, endDate: to },
        query.timeZone,
      );
      const measure = prepareSeries(ctx, range, query.groupBy);
      const question = { name: "series", range, granularity: query.groupBy, skipCache: skips(query) };
      const { content, meta } = await answer(ctx, question, async () => ({
        series: (await measure()).series,
      }));
      const { series } = content.value;
      const rest = series.filter(({ bucket }) => bucket > last);
      const items = rest.slice(0, limit);
      const end = items.at(-1);
      const nextCursor =
        end && rest.length > limit ? encodeCursor(filters, [range.from, range.to, end.bucket]) : null;
      return { ...withNotes({ items, nextCursor }), meta };
    },
  };
}

const USER_METRICS = ["uniqueUsers", "buyers", "purchaseRate"] as const;
const UNKNOWN_USERS = { uniqueUsers: null, buyers: null, purchaseRate: null };

function usersOf(row: MetricsRow | undefined) {
  const { uniqueUsers = 0, buyers = 0, purchaseRate = 0 } = row ?? {};
  return {
    uniqueUsers: Number(uniqueUsers),
    buyers: Number(buyers),
    purchaseRate: Number(purchaseRate),
  };
}

/** Percent of what was before; null where that was nothing. */
function changeOf(before: Totals, now: Totals): Record<(typeof TOTAL_NAMES)[number], Change> {
  const entries = TOTAL_NAMES.map((name) => {
    const difference = now[name] - before[name];
    // Both are doubles of exact decimals, and so is their difference: rounding removes the error of
    // subtracting.
    const absolute = name === "revenue" ? Number(difference.toFixed(4)) : difference;
    const percent = before[name] === 0 ? null : (difference / Math.abs(before[name])) * 100;
    return [name, { absolute, percent }];
  });
  return Object.fromEntries(entries);
}

/** Of two answers in one, what holds for both. */
function worst(one: Meta, other: Meta): Meta {
  const order = ["hit", "miss", "stale"] as const;
  const cache = order[Math.max(order.indexOf(one.cache), order.indexOf(other.cache))] ?? one.cache;
  const asOf = one.asOf < other.asOf ? one.asOf : other.asOf;
  const reason = one.reason ?? other.reason;
  const lagMs = Math.max(one.lagMs, other.lagMs);
  const degraded = one.degraded || other.degraded;
  return { ...one, cache, asOf, lagMs, degraded, ...(reason === undefined ? {} : { reason }) };
}
