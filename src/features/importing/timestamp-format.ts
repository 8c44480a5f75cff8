/** Epoch milliseconds of a cell, or null when it does not have the format. */
export type ReadTimestamp = (value: unknown) => number | null;

const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;
/**
 * ISO 8601 and what databases write: `2011-02-03 04:05:06.789`, also with `+02`, `+0200` or ` UTC`.
 */
const ISO =
  /^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?(?:([Zz]|UTC|GMT)|([+-])(\d\d)(?::?(\d\d))?))?)?$/;
/**
 * The epoch's units, as digits relative to milliseconds: seconds have three fewer, nanoseconds six
 * more. A time from 2000 to 2100 in one unit is no such time in another.
 */
const EPOCH_UNITS = [-3, 0, 3, 6] as const;
const EPOCH_FROM_MS = Date.UTC(2000, 0, 1);
const EPOCH_TO_MS = Date.UTC(2100, 0, 1);
/** Of all zones that there have been, none was further from UTC. */
const MAX_OFFSET_HOURS = 15;
const TOKEN = /YYYY|MM|M|DD|D|HH|H|mm|ss|SSS/g;
const DIGITS: Record<string, [field: keyof Parts, digits: string]> = {
  YYYY: ["year", "\\d{4}"],
  MM: ["month", "\\d\\d"],
  M: ["month", "\\d\\d?"],
  DD: ["day", "\\d\\d"],
  D: ["day", "\\d\\d?"],
  HH: ["hour", "\\d\\d"],
  H: ["hour", "\\d\\d?"],
  mm: ["minute", "\\d\\d"],
  ss: ["second", "\\d\\d"],
  SSS: ["ms", "\\d{3}"],
};

interface Parts {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  ms: number;
}

/**
 * The reader of a format: `auto`, `rfc3339`, `epochMs`, `epochSeconds`, or a pattern of YYYY MM M
 * DD D HH H mm ss SSS with anything between (`M/D/YYYY H:mm`). Null when the text is no such
 * format. `auto` reads ISO 8601, SQL timestamps, and the epoch in seconds, milli-, micro- or
 * nanoseconds by its size. Times without a zone are taken as UTC.
 */
export function timestampReader(format: string): ReadTimestamp | null {
  if (format === "auto") return remembering((value) => isoMs(value) ?? epochMs(value));
  if (format === "rfc3339") return (value) => (RFC_3339.test(String(value)) ? instant(String(value)) : null);
  if (format === "epochMs") return (value) => wholeNumber(value, 1);
  if (format === "epochSeconds") return (value) => wholeNumber(value, 1_000);
  return patternReader(format);
}

function isoMs(value: unknown): number | null {
  const found = ISO.exec(String(value).trim());
  if (!found) return null;
  const [
    ,
    year,
    month,
    day,
    hour = "0",
    minute = "0",
    second = "0",
    fraction = "",
    ,
    sign,
    offHours,
    offMinutes,
  ] = found;
  const ms = Number(fraction.padEnd(3, "0").slice(0, 3));
  const parts = [year, month, day, hour, minute, second].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const time = utcMs(...parts, ms);
  if (time === null || sign === undefined) return time;
  const [offsetHours, offsetMinutes] = [Number(offHours), Number(offMinutes ?? 0)];
  if (offsetHours > MAX_OFFSET_HOURS || offsetMinutes > 59) return null;
  return time - (sign === "-" ? -1 : 1) * (offsetHours * 60 + offsetMinutes) * 60_000;
}

function epochMs(value: unknown): number | null {
  const [, whole, fraction = ""] = /^(\d{9,19})(?:\.(\d+))?$/.exec(String(value).trim()) ?? [];
  if (whole === undefined) return null;
  // By digits: dividing a number of 19 digits would round the last ones up.
  const times = EPOCH_UNITS.map((digits) =>
    Number(
      digits < 0
        ? whole + fraction.padEnd(-digits, "0").slice(0, -digits)
        : whole.slice(0, whole.length - digits),
    ),
  );
  return times.find((time) => time >= EPOCH_FROM_MS && time < EPOCH_TO_MS) ?? null;
}

function instant(text: string): number | null {
  const ms = Date.parse(text.replace(" ", "T"));
  return Number.isNaN(ms) ? null : ms;
}

function wholeNumber(value: unknown, factor: number): number | null {
  if (!/^\d{1,15}(\.\d+)?$/.test(String(value))) return null;
  return Math.round(Number(value) * factor);
}

function patternReader(pattern: string): ReadTimestamp | null {
  const fields = [...pattern.matchAll(TOKEN)].map(([token]) => DIGITS[token]?.[0] ?? "ms");
  const complete = (["year", "month", "day"] as const).every((field) => fields.includes(field));
  const literals = pattern.replaceAll(TOKEN, "");
  if (!complete || new Set(fields).size < fields.length || /[A-SU-Ya-z\d]/.test(literals)) return null;

  const source = pattern
    .replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll(TOKEN, (token) => `(${DIGITS[token]?.[1]})`);
  const expression = new RegExp(`^${source}$`);
  return remembering((value) => partsToMs(fields, expression.exec(String(value))));
}

/** Rows of one invoice follow each other and have the same time. */
function remembering(read: ReadTimestamp): ReadTimestamp {
  let last: unknown;
  let lastMs: number | null = null;
  return (value) => {
    if (value !== last) {
      last = value;
      lastMs = read(value);
    }
    return lastMs;
  };
}

function partsToMs(fields: readonly (keyof Parts)[], found: RegExpExecArray | null): number | null {
  if (!found) return null;
  const parts: Parts = { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, ms: 0 };
  for (const [index, field] of fields.entries()) parts[field] = Number(found[index + 1]);
  return utcMs(parts.year, parts.month, parts.day, parts.hour, parts.minute, parts.second, parts.ms);
}

/** Null for a time that the calendar does not have, such as 31 February. */
function utcMs(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
  ms: number,
): number | null {
  const time = Date.UTC(year, month - 1, day, hour, minute, second, ms);
  const date = new Date(time);
  const exists =
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  return exists ? time : null;
}
