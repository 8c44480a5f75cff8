import { CircuitState } from "cockatiel";

/**
 * Closed: calls go through. Open: they are refused at once. Half-open: one is let through as a
 * test.
 */
export type BreakerState = "closed" | "half-open" | "open";

export function breakerStateOf(state: CircuitState): BreakerState {
  if (state === CircuitState.Closed) return "closed";
  return state === CircuitState.HalfOpen ? "half-open" : "open";
}
