/**
 * The clock is injected where a test must move it; everything else uses this one. Milliseconds
 * since the epoch.
 */
export interface Clock {
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };
