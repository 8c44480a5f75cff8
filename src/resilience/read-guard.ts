import {
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  isBrokenCircuitError,
} from "cockatiel";
import { withDeadline } from "../core/deadline.ts";
import { AppError } from "../core/errors.ts";
import { PRIORITIES, type Priority } from "../core/priority.ts";
import { isAway } from "../db/failures.ts";
import { type BreakerState, breakerStateOf } from "./breaker-state.ts";

/**
 * What stands before reads from Postgres. A circuit breaker: while Postgres is away or silent, the first few reads pay for
 * finding out; the others are refused at once, and one a second looks whether it is back. And an admission: so many reads
 * may run or wait, the less the lower their priority, so that under overload the pool stays busy with what can still be
 * answered in time. Only the absence of Postgres opens the breaker: bad input and questions that are too large do not.
 */
export interface ReadGuard {
  /** Rejects as `ask` does, or at once: `unavailable` while Postgres is away, `overloaded` when too many reads wait. */
  run<T>(ask: () => PromiseLike<T>, priority?: Priority): Promise<T>;
  /** For the look-up of a row or two that every request needs: admitted always, and silence is taken for absence soon. */
  lookUp<T>(ask: () => PromiseLike<T>): Promise<T>;
  state(): BreakerState;
  /** Reads that run or wait, by the number from which on the load is felt. */
  pressure(): number;
}

export interface ReadGuardOptions {
  /** Reads that may run or wait before the load ladder begins. */
  maxReads: number;
  /** Until Postgres counts as silent, for answers and for look-ups. */
  deadlineMs?: number;
  lookUpDeadlineMs?: number;
  onStateChange?: (state: BreakerState) => void;
  onRefused?: (priority: Priority) => void;
}

const FAILURES_IN_A_ROW = 3;
const HALF_OPEN_AFTER_MS = 1_000;
/** Beyond the read pool's statement timeout, which only a server that is there can enforce. */
const ANSWER_DEADLINE_MS = 16_000;
/** Look-ups take a millisecond; the one that looks whether Postgres is back must not hold up the next look. */
const LOOK_UP_DEADLINE_MS = 2_000;
/** Low priority is refused at four times `maxReads`, where the load ladder refuses it; each priority above at twice that. */
const FIRST_REFUSAL = 4;

export function createReadGuard(options: ReadGuardOptions): ReadGuard {
  const { maxReads, deadlineMs = ANSWER_DEADLINE_MS, lookUpDeadlineMs = LOOK_UP_DEADLINE_MS } = options;
  const breaker = circuitBreaker(handleWhen(isAway), {
    halfOpenAfter: HALF_OPEN_AFTER_MS,
    breaker: new ConsecutiveBreaker(FAILURES_IN_A_ROW),
  });
  breaker.onStateChange((state) => options.onStateChange?.(breakerStateOf(state)));
  let running = 0;

  async function execute<T>(ask: () => PromiseLike<T>, withinMs: number): Promise<T> {
    // The library lets everybody wait for the one that looks.
    if (breaker.state === CircuitState.HalfOpen) throw away();
    const limitMs = breaker.state === CircuitState.Closed ? withinMs : lookUpDeadlineMs;
    const silent = () =>
      new AppError("unavailable", "The database does not answer.", { retryAfterSeconds: 1 });
    try {
      return await breaker.execute(() => withDeadline(ask(), limitMs, silent));
    } catch (error) {
      throw isBrokenCircuitError(error) ? away(error) : error;
    }
  }

  return {
    async run(ask, priority = "normal") {
      if (running >= maxReads * FIRST_REFUSAL * 2 ** PRIORITIES.indexOf(priority)) {
        options.onRefused?.(priority);
        throw new AppError("overloaded", "Too many questions are being answered; ask again shortly.", {
          retryAfterSeconds: 1,
        });
      }
      running += 1;
      try {
        return await execute(ask, deadlineMs);
      } finally {
        running -= 1;
      }
    },
    lookUp: (ask) => execute(ask, lookUpDeadlineMs),
    state: () => breakerStateOf(breaker.state),
    pressure: () => running / maxReads,
  };
}

/** True for a failure that says nothing about what was asked: Postgres is away, or has too much to do. */
export function isUnanswered(error: unknown): boolean {
  return isAway(error) || isOverload(error);
}

export function isOverload(error: unknown): boolean {
  return error instanceof AppError && error.code === "overloaded";
}

function away(cause?: unknown): AppError {
  return new AppError("unavailable", "The database can't be reached right now.", {
    retryAfterSeconds: 1,
    cause,
  });
}
