/** What the clocks of a time zone show, as the runtime's time zone data has it. */
export interface ClockRun {
  /** From this instant on, in ms, until that of the next run. */
  startMs: number;
  offsetSeconds: number;
}

/**
 * The offsets from UTC in [fromMs, untilMs). Throws RangeError for a zone that the runtime does not
 * know.
 */
export function clockOf(timeZone: string, fromMs: number, untilMs: number): ClockRun[] {
  const runs: ClockRun[] = [];
  const first = Temporal.Instant.fromEpochMilliseconds(fromMs).toZonedDateTimeISO(timeZone);
  for (
    let at: Temporal.ZonedDateTime | null = first;
    at !== null && at.epochMilliseconds < untilMs;
    at = at.getTimeZoneTransition("next")
  )
    runs.push({ startMs: at.epochMilliseconds, offsetSeconds: Math.round(at.offsetNanoseconds / 1e9) });
  return runs;
}
