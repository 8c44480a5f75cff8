import {
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  isBrokenCircuitError,
} from "cockatiel";
import { withDeadline } from "../core/deadline.ts";
import { AppError } from "../core/errors.ts";
import { classifyFailure } from "../db/failures.ts";

/**
 * A circuit breaker before reads from Postgres. While it is away or silent, the first few reads pay for finding out; the
 * others are refused at once, and one a second looks whether it is back. Only its absence counts: bad input does not, and
 * neither does a question that is too large.
 */
export interface ReadGuard {
  /** Rejects as `ask` does, or with `unavailable` at once while Postgres is taken for away. */
  run<T>(ask: () => PromiseLike<T>): Promise<T>;
  state(): "closed" | "half-open" | "open";
}

const FAILURES_IN_A_ROW = 3;
const HALF_OPEN_AFTER_MS = 1_000;
/** Beyond the read pool's statement timeout, which only a server that is there can enforce. */
const ANSWER_DEADLINE_MS = 16_000;

export function createReadGuard({
  deadlineMs = ANSWER_DEADLINE_MS,
  onChange = () => {},
}: {
  deadlineMs?: number;
  onChange?: (state: ReturnType<ReadGuard["state"]>) => void;
} = {}): ReadGuard {
  const breaker = circuitBreaker(handleWhen(isAway), {
    halfOpenAfter: HALF_OPEN_AFTER_MS,
    breaker: new ConsecutiveBreaker(FAILURES_IN_A_ROW),
  });
  breaker.onStateChange((state) => onChange(nameOf(state)));
  const silent = () => new AppError("unavailable", "The database does not answer.", { retryAfterSeconds: 1 });
  return {
    async run(ask) {
      try {
        return await breaker.execute(() => withDeadline(ask(), deadlineMs, silent));
      } catch (error) {
        if (!isBrokenCircuitError(error)) throw error;
        throw new AppError("unavailable", "The database can't be reached right now.", {
          retryAfterSeconds: 1,
          cause: error,
        });
      }
    },
    state: () => nameOf(breaker.state),
  };
}

/** True for an error that says that Postgres (or what stands before it) is away, and nothing about the question. */
export function isAway(error: unknown): boolean {
  if (error instanceof AppError) return error.code === "unavailable";
  return classifyFailure(error) === "unavailable";
}

function nameOf(state: CircuitState): ReturnType<ReadGuard["state"]> {
  if (state === CircuitState.Closed) return "closed";
  return state === CircuitState.HalfOpen ? "half-open" : "open";
}
