import { addDays, type Day, nextMonth } from "../../core/days.ts";
import type { DayRange } from "../rollups/index.ts";

export type Period = "day" | "sixth" | "month";

/**
 * Whole periods of one length, by their first days. Their sums are added to those of a range, or
 * taken off.
 */
export interface CoverPart {
  period: Period;
  sign: "+" | "-";
  starts: Day[];
}

/**
 * Sixths of a month begin on its 1st, 6th, 11th, 16th, 21st and 26th. The last one takes the rest.
 */
const LAST_SIXTH = 26;

/**
 * The fewest periods that make up a range: a shortest path from its first day to the day after its
 * last, by days, sixths and months, forwards or backwards. A step back takes off what a longer one
 * had too much: 1 to 29 June is June less one day. Thirty days take 6 periods on average and 10 at
 * most (without subtracting: 12), a year 17 and 21.
 */
export function coverRange({ from, to }: DayRange): CoverPart[] {
  const parts = new Map<string, CoverPart>();
  for (const { period, back, start } of shortestWalk(from, addDays(to, 1))) {
    const sign = back ? "-" : "+";
    const part = parts.get(period + sign) ?? { period, sign, starts: [] };
    parts.set(period + sign, part);
    part.starts.push(start);
  }
  return [...parts.values()];
}

interface Step {
  period: Period;
  back: boolean;
  /** First day of the period that is walked over. */
  start: Day;
  from: Day;
  to: Day;
}

/** Breadth first, within the months that the range touches. */
function shortestWalk(from: Day, until: Day): Step[] {
  const first = monthOf(from);
  const last = nextMonth(until);
  const cameBy = new Map<Day, Step | null>([[from, null]]);
  for (let reached = [from]; !cameBy.has(until); ) {
    const next: Day[] = [];
    for (const day of reached) {
      for (const step of stepsFrom(day)) {
        if (step.to < first || step.to > last || cameBy.has(step.to)) continue;
        cameBy.set(step.to, step);
        next.push(step.to);
      }
    }
    reached = next;
  }
  const walk: Step[] = [];
  for (let step = cameBy.get(until); step; step = cameBy.get(step.from)) walk.push(step);
  return walk.reverse();
}

/** Longer ones first: of paths of one length, that with the longest periods is taken. */
function stepsFrom(day: Day): Step[] {
  const dayBefore = addDays(day, -1);
  const forth = (period: Period, to: Day): Step => ({ period, back: false, start: day, from: day, to });
  const back = (period: Period, to: Day): Step => ({ period, back: true, start: to, from: day, to });
  return [
    ...(isMonthStart(day) ? [forth("month", nextMonth(day)), back("month", monthOf(dayBefore))] : []),
    ...(isSixthStart(day) ? [forth("sixth", nextSixth(day)), back("sixth", sixthOf(dayBefore))] : []),
    forth("day", addDays(day, 1)),
    back("day", dayBefore),
  ];
}

const dayOfMonth = (day: Day) => Number(day.slice(8));
const monthOf = (day: Day): Day => `${day.slice(0, 7)}-01`;
const isMonthStart = (day: Day) => dayOfMonth(day) === 1;
const isSixthStart = (day: Day) => dayOfMonth(day) % 5 === 1 && dayOfMonth(day) <= LAST_SIXTH;
const nextSixth = (day: Day) => (dayOfMonth(day) === LAST_SIXTH ? nextMonth(day) : addDays(day, 5));

function sixthOf(day: Day): Day {
  const start = Math.min(LAST_SIXTH, dayOfMonth(day) - ((dayOfMonth(day) - 1) % 5));
  return `${day.slice(0, 8)}${String(start).padStart(2, "0")}`;
}
