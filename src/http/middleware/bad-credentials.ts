import { AppError } from "../../core/errors.ts";
import type { RatePolicy } from "../../core/rate-limits.ts";
import type { Decide } from "./rate-limit.ts";

/**
 * Bad credentials, counted by address: checking one costs a query or a signature and comes before
 * every other limit. Above the limit, an address has its credentials refused unchecked until there
 * is room again. Those that this process has found good before still pass, so one client can't shut
 * out others behind the same address.
 */
export interface BadCredentials {
  /** Throws `rate_limited` while too many came from the address. */
  refuse(address: string): void;
  /** Counts one; throws `rate_limited` when it is one too many. */
  count(address: string): Promise<void>;
}

/** Drops the oldest beyond this; the shared count still holds for it. */
const MAX_REFUSED = 10_000;

export function createBadCredentials(policy: RatePolicy, decide: Decide): BadCredentials {
  const refusedUntilMs = new Map<string, number>();

  function tooMany(untilMs: number): AppError {
    return new AppError("rate_limited", "Too many bad credentials came from this address.", {
      retryAfterSeconds: Math.max(1, Math.ceil((untilMs - Date.now()) / 1000)),
    });
  }

  return {
    refuse(address) {
      const untilMs = refusedUntilMs.get(address);
      if (untilMs === undefined) return;
      if (untilMs > Date.now()) throw tooMany(untilMs);
      refusedUntilMs.delete(address);
    },
    async count(address) {
      const { admitted, resetMs } = await decide(`{address:${address}}:badCredentials`, policy);
      if (admitted) return;
      const oldest = refusedUntilMs.keys().next().value;
      if (refusedUntilMs.size >= MAX_REFUSED && oldest !== undefined) refusedUntilMs.delete(oldest);
      const untilMs = Date.now() + resetMs;
      refusedUntilMs.set(address, untilMs);
      throw tooMany(untilMs);
    },
  };
}
