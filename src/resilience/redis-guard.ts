import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleAll } from "cockatiel";
import { type BreakerState, breakerStateOf } from "./breaker-state.ts";

/**
 * A circuit breaker before Redis on the request path. A Redis that hangs costs its command timeout
 * a few times. Then requests go on without it at once, and one of them a second tests whether it is
 * back.
 */
export interface RedisGuard {
  /** Rejects as `ask` does, or at once while Redis counts as away. */
  run<T>(ask: () => Promise<T>): Promise<T>;
  state(): BreakerState;
}

const FAILURES_IN_A_ROW = 3;
const HALF_OPEN_AFTER_MS = 1_000;

export function createRedisGuard(): RedisGuard {
  const breaker = circuitBreaker(handleAll, {
    halfOpenAfter: HALF_OPEN_AFTER_MS,
    breaker: new ConsecutiveBreaker(FAILURES_IN_A_ROW),
  });
  return {
    async run(ask) {
      // The library lets everybody wait for the one that looks.
      if (breaker.state === CircuitState.HalfOpen) throw new Error("Redis is away.");
      return breaker.execute(ask);
    },
    state: () => breakerStateOf(breaker.state),
  };
}
