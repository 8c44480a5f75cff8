const EXAMPLE = "2026-11-21T09:30:00Z";

/** Why a text is no RFC 3339 time, and how to write what it probably means. */
export function explainInstant(text: string): string {
  const day = /^\d{4}-\d\d-\d\d$/.exec(text);
  if (day) return `has no time of day: send ${text}T00:00:00Z`;
  const local = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(:\d\d(\.\d+)?)?)$/.exec(text);
  if (local)
    return `has no time zone: send ${local[1]}T${local[2]}Z, or an offset such as +01:00 instead of the Z`;
  // A + that was not percent-encoded in a query arrives as a space.
  const space = /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(?::\d\d(?:\.\d+)?)?) (\d\d:\d\d)$/.exec(text);
  if (space)
    return `has a space instead of a +: write the + as %2B in a query, as in ${space[1]}%2B${space[2]}`;
  if (/^-?\d+(\.\d+)?$/.test(text)) return `must be a time such as ${EXAMPLE}, not a number in a string`;
  if (/^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(text))
    return "is no date and time of the calendar";
  return `must be a time with a time zone (RFC 3339), such as ${EXAMPLE}`;
}

const SECONDS = { least: 1e8, most: 1e11 };

/**
 * What a timestamp's number probably is instead of milliseconds since 1970; null when it may be
 * milliseconds.
 */
export function explainEpoch(value: number): string | null {
  if (!Number.isFinite(value) || value < SECONDS.least) return null;
  const whole = (ms: number) => String(Math.round(ms));
  if (value < SECONDS.most)
    return `looks like epoch seconds; send milliseconds (${whole(value * 1e3)}), or a time such as ${EXAMPLE}`;
  // Milliseconds of the year 5138 and later.
  if (value < SECONDS.most * 1e3) return null;
  const [unit, factor] = value < SECONDS.most * 1e6 ? ["microseconds", 1e3] : ["nanoseconds", 1e6];
  return `looks like epoch ${unit}; send milliseconds (${whole(value / Number(factor))}), or a time such as ${EXAMPLE}`;
}
