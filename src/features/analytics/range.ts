import { addDays, countDays, type Day, dayInZone, nextMonth } from "../../core/days.ts";
import type { AppError } from "../../core/errors.ts";
import { invalidInput } from "../../core/validation.ts";
import { MAX_RANGE_DAYS, type Period } from "./schema.ts";

export interface LocalDays {
  from: Day;
  to: Day;
  timeZone: string;
}

export interface Range extends LocalDays {
  /**
   * The tenant's zone, by which the rollups are kept. Read once a question, so that plan and cached
   * answer agree.
   */
  ownZone: string;
}

const DEFAULT_DAYS = 30;

/**
 * The days asked for, both ends included, in `timeZone`. Throws `invalid_input` for an invalid
 * range.
 */
export function resolveRange(
  query: { days?: number; startDate?: Day; endDate?: Day },
  timeZone: string,
  nowMs: number,
): LocalDays {
  const { days, startDate, endDate } = query;
  if ((startDate === undefined) !== (endDate === undefined))
    throw startDate === undefined
      ? badRange("startDate", "is required with endDate")
      : badRange("endDate", "is required with startDate");
  if (startDate !== undefined && endDate !== undefined) {
    if (days !== undefined) throw badRange("days", "goes without startDate and endDate");
    if (endDate < startDate) throw badRange("endDate", "is before startDate");
    if (countDays(startDate, endDate) > MAX_RANGE_DAYS)
      throw badRange("endDate", `is more than ${MAX_RANGE_DAYS} days after startDate`);
    return { from: startDate, to: endDate, timeZone };
  }
  const today = dayInZone(nowMs, timeZone);
  return { from: addDays(today, 1 - (days ?? DEFAULT_DAYS)), to: today, timeZone };
}

export function badRange(path: string, message: string): AppError {
  return invalidInput("range", [{ path, code: "invalid_range", message }]);
}

/**
 * True when the hours of both zones start at the same instants all through the range. Then rows
 * kept by the hours of one can be added up to days of the other. Every day is checked, since some
 * zones move their clock by half an hour.
 */
export function hoursAlign({ from, to, timeZone }: LocalDays, otherZone: string): boolean {
  const minuteIn = (zone: string) => new Intl.DateTimeFormat("en", { timeZone: zone, minute: "numeric" });
  const [one, other] = [minuteIn(timeZone), minuteIn(otherZone)];
  for (let day = addDays(from, -1); day <= addDays(to, 2); day = addDays(day, 1)) {
    if (one.format(Date.parse(day)) !== other.format(Date.parse(day))) return false;
  }
  return true;
}

/**
 * From here on, names that JavaScript takes for one zone are the same clock to Postgres. Before,
 * some are not.
 */
const ALIASES_SINCE = "1971-01-01";

/**
 * The range by the tenant's own spelling of its zone, if it names that zone in another way or in
 * other letters.
 */
export function byOwnName(range: Range): Range {
  const { from, timeZone, ownZone } = range;
  const isOwn =
    timeZone === ownZone ||
    timeZone.toLowerCase() === ownZone.toLowerCase() ||
    (from >= ALIASES_SINCE && EPOCH.withTimeZone(timeZone).equals(EPOCH.withTimeZone(ownZone)));
  return isOwn ? { ...range, timeZone: ownZone } : range;
}

/** Two of one instant are equal if their zones are. */
const EPOCH = Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO("UTC");

/** The equally long range directly before. */
export function rangeBefore(range: Range): Range {
  const { from, to } = range;
  return { ...range, from: addDays(from, -countDays(from, to)), to: addDays(from, -1) };
}

export function daysOf({ from, to }: Range): Day[] {
  return Array.from({ length: countDays(from, to) }, (_, index) => addDays(from, index));
}

/** First day of the period that holds `day`; weeks begin on Monday. */
export function startOfPeriod(day: Day, period: Period): Day {
  if (period === "day") return day;
  if (period === "month") return `${day.slice(0, 7)}-01`;
  return addDays(day, -((new Date(day).getUTCDay() + 6) % 7));
}

export function nextPeriod(start: Day, period: Period): Day {
  if (period === "month") return nextMonth(start);
  return addDays(start, period === "day" ? 1 : 7);
}
