/**
 * The rate limit policies, their defaults and their settings: `RATE_LIMIT_STANDARD=100/1s`, or
 * `off`.
 */
export interface RatePolicy {
  /** Requests that a window admits. */
  limit: number;
  windowMs: number;
}

export const RATE_LIMIT_DEFAULTS = {
  auth: "10/1m",
  standard: "100/1s",
  import: "5/1m",
  analytics: "300/1m",
  eventsRead: "300/1m",
  eventsWrite: "1000/1s",
  badCredentials: "100/1m",
} as const;

export type PolicyName = keyof typeof RATE_LIMIT_DEFAULTS;
/**
 * Those that operations count against. Bad credentials are counted before the operation is known.
 */
export type OperationPolicyName = Exclude<PolicyName, "badCredentials">;
export type RatePolicies = Record<PolicyName, RatePolicy | null>;

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000 } as const;
const POLICY = /^(\d{1,9})\/(\d{1,4})([smh])$/;

/** `100/1s` as a policy, `off` as null; undefined for anything else. */
export function parseRatePolicy(text: string): RatePolicy | null | undefined {
  if (text === "off") return null;
  const [, limit, count, unit] = POLICY.exec(text) ?? [];
  if (!limit || !count || !unit || Number(limit) === 0 || Number(count) === 0) return undefined;
  return { limit: Number(limit), windowMs: Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS] };
}
