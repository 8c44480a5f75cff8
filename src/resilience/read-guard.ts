import { ConsecutiveBreaker, circuitBreaker, handleWhen, isBrokenCircuitError } from "cockatiel";
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
  /** Rejects as `ask` does, or at once with `unavailable` while Postgres is away or too many reads wait. */
  run<T>(ask: () => PromiseLike<T>, priority?: Priority): Promise<T>;
  state(): BreakerState;
  /** Reads that run or wait, by the number that one of normal priority may find: 1 and more means refusal. */
  pressure(): number;
}

export interface ReadGuardOptions {
  /** How many reads may run or wait for one of normal priority to be admitted. */
  maxReads: number;
  /** Until Postgres counts as silent. */
  deadlineMs?: number;
  onStateChange?: (state: BreakerState) => void;
  onRefused?: (priority: Priority) => void;
}

const FAILURES_IN_A_ROW = 3;
const HALF_OPEN_AFTER_MS = 1_000;
/** Beyond the read pool's statement timeout, which only a server that is there can enforce. */
const ANSWER_DEADLINE_MS = 16_000;

export function createReadGuard(options: ReadGuardOptions): ReadGuard {
  const { maxReads, deadlineMs = ANSWER_DEADLINE_MS } = options;
  const breaker = circuitBreaker(handleWhen(isAway), {
    halfOpenAfter: HALF_OPEN_AFTER_MS,
    breaker: new ConsecutiveBreaker(FAILURES_IN_A_ROW),
  });
  breaker.onStateChange((state) => options.onStateChange?.(breakerStateOf(state)));
  let running = 0;

  async function execute<T>(ask: () => PromiseLike<T>): Promise<T> {
    try {
      return await breaker.execute(() =>
        withDeadline(ask(), deadlineMs, () => unavailable("The database does not answer.")),
      );
    } catch (error) {
      throw isBrokenCircuitError(error)
        ? unavailable("The database can't be reached right now.", error)
        : error;
    }
  }

  return {
    async run(ask, priority = "normal") {
      if (running >= admitted(maxReads, priority)) {
        options.onRefused?.(priority);
        throw unavailable("Too many questions are being answered; ask again shortly.");
      }
      running += 1;
      try {
        return await execute(ask);
      } finally {
        running -= 1;
      }
    },
    state: () => breakerStateOf(breaker.state),
    pressure: () => running / maxReads,
  };
}

/** Half as many for each step of priority below, twice as many for each above. */
function admitted(maxReads: number, priority: Priority): number {
  const steps = PRIORITIES.indexOf(priority) - PRIORITIES.indexOf("normal");
  return Math.max(1, maxReads * 2 ** steps);
}

function unavailable(detail: string, cause?: unknown): AppError {
  return new AppError("unavailable", detail, { retryAfterSeconds: 1, cause });
}
