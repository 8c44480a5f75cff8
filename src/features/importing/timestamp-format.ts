/** Epoch milliseconds of a cell, or null when it does not have the format. */
export type ReadTimestamp = (value: unknown) => number | null;

const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;
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
 * The reader of a format: `rfc3339`, `epochMs`, `epochSeconds`, or a pattern of YYYY MM M DD D HH H mm ss SSS with
 * anything between, such as `YYYY-MM-DD HH:mm:ss` or `M/D/YYYY H:mm`, whose times are taken as UTC. Null when the
 * text is no such format.
 */
export function timestampReader(format: string): ReadTimestamp | null {
  if (format === "rfc3339") return (value) => (RFC_3339.test(String(value)) ? instant(String(value)) : null);
  if (format === "epochMs") return (value) => wholeNumber(value, 1);
  if (format === "epochSeconds") return (value) => wholeNumber(value, 1_000);
  return patternReader(format);
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
  // Rows of one invoice follow each other and have the same text.
  let lastText = "";
  let lastMs: number | null = null;
  return (value) => {
    const text = String(value);
    if (text !== lastText) {
      lastText = text;
      lastMs = partsToMs(fields, expression.exec(text));
    }
    return lastMs;
  };
}

/** Null for a date that the calendar does not have, such as 31 February. */
function partsToMs(fields: readonly (keyof Parts)[], found: RegExpExecArray | null): number | null {
  if (!found) return null;
  const parts: Parts = { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, ms: 0 };
  for (const [index, field] of fields.entries()) parts[field] = Number(found[index + 1]);
  const { year, month, day, hour, minute, second, ms } = parts;
  const time = Date.UTC(year, month - 1, day, hour, minute, second, ms);
  const date = new Date(time);
  const exists =
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  return exists ? time : null;
}
