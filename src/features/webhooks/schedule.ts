/**
 * When a failed delivery is tried again: exponential backoff with full jitter, so that the
 * deliveries of an endpoint that was down don't all come back at once. Each wait is drawn between
 * zero and its ceiling. The ceilings add up to two days, so the tries spread over one day on
 * average.
 */
const CEILINGS_SECONDS = [10, 60, 240, 1_200, 3_600, 7_200, 14_400, 28_800, 43_200, 72_000];
const MIN_DELAY_SECONDS = 1;
/** However long an endpoint asks to be left alone (Retry-After). */
const MAX_RETRY_AFTER_SECONDS = 4 * 3_600;

export const MAX_ATTEMPTS = CEILINGS_SECONDS.length + 1;

/** Seconds to wait after so many attempts; null when that was the last one. */
export function retryDelaySeconds(
  attempts: number,
  retryAfterSeconds: number | null,
  random: () => number = Math.random,
): number | null {
  const ceiling = CEILINGS_SECONDS[attempts - 1];
  if (ceiling === undefined) return null;
  const asked = Math.min(retryAfterSeconds ?? 0, MAX_RETRY_AFTER_SECONDS);
  return Math.max(random() * ceiling, asked, MIN_DELAY_SECONDS);
}

/**
 * Retry-After in seconds from now: RFC 9110 allows a number of seconds or a date. Null for neither.
 */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null;
  if (/^\d{1,9}$/.test(header)) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, (at - nowMs) / 1_000);
}
