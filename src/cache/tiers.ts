const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/**
 * How long an answer may live, in seconds, by the age of the range's end: recent figures still
 * change. Jitter of up to a fifth keeps entries that were made together from expiring together.
 */
export function ttlSeconds(rangeEndMs: number, nowMs: number): number {
  const ageMs = nowMs - rangeEndMs;
  const base = ageMs < HOUR_MS ? 30 : ageMs < 7 * DAY_MS ? 300 : 3600;
  return Math.round(base * (1 - Math.random() * 0.2));
}
