/**
 * Calendar days as `YYYY-MM-DD` text. A day belongs to a time zone. This file only computes the
 * calendar (in UTC, where every day has 24 hours); Postgres maps days to instants.
 */
export type Day = string;

const DAY_MS = 86_400_000;
const DAY = /^\d{4}-\d{2}-\d{2}$/;
/**
 * Days are compared as text, which works for years of four digits only: the year 10000 is written
 * "+010000", and a loop over months would never end. The bounds leave room for what is added to a
 * day.
 */
const FIRST_DAY = "1900-01-01";
const LAST_DAY = "8999-12-31";

export function isDay(text: string): boolean {
  const inBounds = DAY.test(text) && text >= FIRST_DAY && text <= LAST_DAY;
  return inBounds && toDay(Date.parse(`${text}T00:00:00Z`)) === text;
}

/** The UTC calendar day of an instant in milliseconds; an invalid instant gives "". */
export function toDay(timeMs: number): Day {
  return Number.isNaN(timeMs) ? "" : new Date(timeMs).toISOString().slice(0, 10);
}

/** The calendar day of an instant in `timeZone` (IANA name). */
export function dayInZone(timeMs: number, timeZone: string): Day {
  let format = dayFormats.get(timeZone);
  if (!format) {
    format = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short" });
    dayFormats.set(timeZone, format);
  }
  return format.format(timeMs);
}

/** Making one takes fifty times as long as using it. Bounded by the number of time zones. */
const dayFormats = new Map<string, Intl.DateTimeFormat>();

export function addDays(day: Day, days: number): Day {
  return toDay(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS);
}

/** Number of days from `from` to `to`, both included. */
export function countDays(from: Day, to: Day): number {
  return Math.round((Date.parse(to) - Date.parse(from)) / DAY_MS) + 1;
}

/** First days (`YYYY-MM-01`) of the months that touch [from, to]. */
export function monthsBetween(from: Day, to: Day): Day[] {
  const months: Day[] = [];
  for (let month = `${from.slice(0, 7)}-01`; month <= to; month = nextMonth(month)) months.push(month);
  return months;
}

export function nextMonth(day: Day): Day {
  const [year = 0, month = 0] = day.split("-").map(Number);
  // By hand within a year: a question over years computes the months of its tags each time it is
  // asked.
  return month < 12 && year > 999 && year < 10_000
    ? `${year}-${month < 9 ? "0" : ""}${month + 1}-01`
    : toDay(Date.UTC(year, month, 1));
}

/** What a refused name is told, after the name of its field. */
export const TIME_ZONE_NAMES =
  "must be an IANA name such as Europe/Berlin, or UTC, not an abbreviation such as CET";

/**
 * What the document says of a time zone that a client names. The codes are those of
 * `db/time-zones.ts`.
 */
export const TIME_ZONE_RULE =
  "IANA name. Refused, with the code `unknown_time_zone` or `uncertain_time_zone` of a field error, where the server and its Postgres do not both know the zone by the same clock";

/**
 * True for the name of an IANA time zone that the runtime knows. Whether Postgres has the same
 * clock is checked later (db/time-zones.ts). Short names such as CET are refused: Postgres takes
 * them for an abbreviation with one offset.
 */
export function isTimeZone(name: string): boolean {
  if (/^[A-Za-z]{1,5}$/.test(name)) return /^(UTC|GMT)$/i.test(name);
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return /^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/.test(name);
  } catch {
    return false;
  }
}
