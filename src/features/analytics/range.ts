import { addDays, countDays, type Day, dayInZone, monthsBetween } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { MAX_RANGE_DAYS } from "./schema.ts";

export interface Range {
  from: Day;
  to: Day;
  timeZone: string;
}

const DEFAULT_DAYS = 30;

/** The days asked for, both ends included, in `timeZone`. Throws `invalid_input` for a range that is none. */
export function resolveRange(
  query: { days?: number; startDate?: Day; endDate?: Day },
  timeZone: string,
  nowMs: number,
): Range {
  const { days, startDate, endDate } = query;
  if ((startDate === undefined) !== (endDate === undefined))
    throw badRange("startDate", "startDate and endDate go together");
  if (startDate !== undefined && endDate !== undefined) {
    if (days !== undefined) throw badRange("days", "give days, or startDate and endDate");
    if (endDate < startDate) throw badRange("endDate", "is before startDate");
    if (countDays(startDate, endDate) > MAX_RANGE_DAYS)
      throw badRange("endDate", `more than ${MAX_RANGE_DAYS} days after startDate`);
    return { from: startDate, to: endDate, timeZone };
  }
  const today = dayInZone(nowMs, timeZone);
  return { from: addDays(today, 1 - (days ?? DEFAULT_DAYS)), to: today, timeZone };
}

export function badRange(path: string, message: string): AppError {
  return new AppError("invalid_input", "The range is not valid.", {
    errors: [{ path, code: "invalid_range", message }],
  });
}

/**
 * True when the hours of both zones start at the same instants all through the range, so that rows kept by the hours of
 * one can be added up to the days of the other. Offsets are compared at every month's start: zones whose offset has a
 * fraction of an hour change it years apart, and never to another fraction and back within a month.
 */
export function hoursAlign(range: Range, otherZone: string): boolean {
  const instants = [range.from, ...monthsBetween(range.from, range.to), addDays(range.to, 1)].map((day) =>
    Date.parse(day),
  );
  return instants.every((ms) => minutesPastHour(ms, range.timeZone) === minutesPastHour(ms, otherZone));
}

function minutesPastHour(timeMs: number, timeZone: string): string {
  return new Intl.DateTimeFormat("en", { timeZone, minute: "numeric" }).format(timeMs);
}
