import { PRODUCTS_TAG } from "../../cache/tags.ts";
import { addDays, countDays, type Day, dayInZone } from "../../core/days.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import {
  type RetentionCell,
  selectMinutes,
  selectProductsNow,
  selectRetention,
} from "./behaviour-repository.ts";
import { selectProductNames } from "./catalogue-repository.ts";
import { type Desk, skips } from "./desk.ts";
import { createFirstDayReader } from "./first-day.ts";
import { selectFunnel } from "./funnel-repository.ts";
import { MAX_RAW_DAYS } from "./planner.ts";
import { badRange, nextPeriod, startOfPeriod } from "./range.ts";
import type { FunnelQuery, Period, RealtimeQuery, RetentionQuery } from "./schema.ts";

const MINUTE_MS = 60_000;
const REALTIME_MINUTES = 30;
const REALTIME_PRODUCTS = 10;
/** An answer about now is shared for so long. */
const REALTIME_FRESH_SECONDS = 5;

/** Days that a retention question covers by default, and at the most. */
const RETENTION_DAYS: Record<Period, { usual: number; most: number }> = {
  day: { usual: 14, most: 93 },
  week: { usual: 84, most: 735 },
  month: { usual: 365, most: 1_100 },
};

/**
 * Answers about sequences of a user's events. Funnel and realtime read raw events, over a bounded
 * range.
 */
export function createBehaviourAnswers(
  { sql, answer, tenantZone, rangeOf }: Desk,
  { lookUps, readGuard }: { lookUps: Sql; readGuard: Pick<ReadGuard, "lookUp"> },
) {
  const readFirstDay = createFirstDayReader(lookUps, readGuard);

  return {
    async getFunnel(ctx: RequestContext, query: FunnelQuery) {
      const range = await rangeOf(ctx, query);
      if (countDays(range.from, range.to) > MAX_RAW_DAYS)
        throw badRange("endDate", `is too late: a funnel goes over at most ${MAX_RAW_DAYS} days`);
      const steps = query.steps.split(",");
      const { windowHours } = query;
      // Later steps may come after the range, so the answer also depends on the tags of those
      // months.
      const until = addDays(range.to, Math.ceil(windowHours / 24));
      const question = {
        name: `funnel:${range.to}:${windowHours}:${query.steps}`,
        range: { ...range, to: until },
        shown: range,
        skipCache: skips(query),
      };
      return answer(ctx, { ...question, granularity: "day" }, async () => {
        const reached = await selectFunnel(sql, ctx.tenantId, range, steps, windowHours);
        return { steps: toSteps(steps, reached), windowHours };
      });
    },

    /** Cohorts by the first day ever on which the tenant saw a user, in whole periods. */
    async getRetention(ctx: RequestContext, query: RetentionQuery) {
      const { period } = query;
      const { usual, most } = RETENTION_DAYS[period];
      const asked = query.days === undefined && query.startDate === undefined && query.endDate === undefined;
      const given = await rangeOf(ctx, asked ? { days: usual } : query);
      const range = { ...given, from: startOfPeriod(given.from, period) };
      if (countDays(given.from, given.to) > most)
        throw badRange("endDate", `is too late: retention by ${period} goes over at most ${most} days`);
      const { from, to } = range;
      // A late event before the range moves a user to an older cohort, so the answer depends on all
      // months from the first.
      const firstDay = await readFirstDay(ctx.tenantId);
      const since = firstDay !== null && firstDay < from ? firstDay : from;
      const question = {
        name: `retention:${from}`,
        range: { ...range, from: since },
        shown: range,
        skipCache: skips(query),
      };
      return answer(ctx, { ...question, granularity: period }, async () => {
        const cells = await selectRetention(sql, ctx.tenantId, range, period);
        return { period, cohorts: toCohorts(cells, from, to, period) };
      });
    },

    async getRealtime(ctx: RequestContext, query: RealtimeQuery) {
      const { tenantId } = ctx;
      const nowMs = Date.now();
      const timeZone = await tenantZone(ctx);
      const today = dayInZone(nowMs, timeZone);
      const question = {
        name: "realtime",
        freshSeconds: REALTIME_FRESH_SECONDS,
        range: { from: today, to: today, timeZone, ownZone: timeZone },
        skipCache: skips(query),
        tags: [PRODUCTS_TAG],
      };
      return answer(ctx, { ...question, granularity: "hour" }, async () => {
        const thisMinuteMs = Math.floor(nowMs / MINUTE_MS) * MINUTE_MS;
        const minutes = Array.from({ length: REALTIME_MINUTES }, (_, index) =>
          new Date(thisMinuteMs - (REALTIME_MINUTES - 1 - index) * MINUTE_MS).toISOString(),
        );
        const from = minutes[0] ?? "";
        // Clocks that run ahead may have sent events of the next hour.
        const until = new Date(thisMinuteMs + MINUTE_MS).toISOString();
        const [rows, found] = await Promise.all([
          selectMinutes(sql, tenantId, from, until),
          selectProductsNow(sql, tenantId, from, until, REALTIME_PRODUCTS + 1),
        ]);
        const products = found.slice(0, REALTIME_PRODUCTS);
        const names = await selectProductNames(
          sql,
          tenantId,
          products.map(({ productId }) => productId),
        );
        const byMinute = new Map(rows.map((row) => [row.minute, row]));
        const countsAt = (minute: string | null) => {
          const { events = 0, activeUsers = 0 } = byMinute.get(minute) ?? {};
          return { events, activeUsers };
        };
        return {
          ...countsAt(null),
          minutes: minutes.map((minute) => ({ minute, ...countsAt(minute) })),
          topProducts: products.map((product) => ({
            ...product,
            name: names.get(product.productId) ?? null,
          })),
          topProductsTruncated: found.length > REALTIME_PRODUCTS,
        };
      });
    },
  };
}

function toSteps(types: readonly string[], reached: readonly number[]) {
  const share = (part: number, whole: number) => (whole === 0 ? 0 : part / whole);
  return types.map((type, index) => {
    const users = reached[index] ?? 0;
    const before = reached[index - 1] ?? users;
    return { type, users, rate: share(users, reached[0] ?? 0), dropOff: share(before - users, before) };
  });
}

function toCohorts(cells: readonly RetentionCell[], from: Day, to: Day, period: Period) {
  const starts: Day[] = [];
  for (let start = from; start <= to; start = nextPeriod(start, period)) starts.push(start);
  const users = new Map(cells.map((cell) => [`${cell.cohort} ${cell.seen}`, cell.users]));
  return starts.map((cohort, first) => {
    const size = users.get(`${cohort} ${cohort}`) ?? 0;
    const periods = starts.slice(first).map((seen, offset) => {
      const back = users.get(`${cohort} ${seen}`) ?? 0;
      return { offset, users: back, rate: size === 0 ? 0 : back / size };
    });
    return { cohort, users: size, periods };
  });
}
