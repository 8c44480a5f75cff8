import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhen } from "cockatiel";
import { withDeadline } from "../core/deadline.ts";
import { AppError } from "../core/errors.ts";
import { PRIORITIES, type Priority } from "../core/priority.ts";
import { READ_CONNECTIONS } from "../db/client.ts";
import { isAway } from "../db/failures.ts";
import { type BreakerState, breakerStateOf } from "./breaker-state.ts";
import { createFairReads } from "./fair-reads.ts";

/**
 * A circuit breaker and an admission before reads from Postgres. While Postgres is away or silent,
 * reads are refused at once; at most once a second a refused read starts a background check whether
 * it is back. Only the absence of Postgres opens the breaker, no bad input and no large question.
 * The admission bounds how many reads run or wait, by priority and by tenant, so that the pool
 * works on what can be answered in time. See docs/degradation.md.
 */
export interface ReadGuard {
  /**
   * Rejects as `ask` does, or at once: `unavailable` while Postgres is away, `overloaded` when too
   * many reads wait.
   */
  run<T>(ask: () => PromiseLike<T>, by: Reader): Promise<T>;
  /**
   * For a further page of an answer that has begun: behind all reads that somebody waits for, and
   * tried again while too many wait. Breaking the answer off would gain nothing.
   */
  runPatiently<T>(ask: () => PromiseLike<T>, by: Reader): Promise<T>;
  /**
   * For the row or two that every request needs: always admitted, and silence soon counts as
   * absence.
   */
  lookUp<T>(ask: () => PromiseLike<T>): Promise<T>;
  /**
   * Refuses a waiting read of lower priority in place of this request: one of its own tenant, or of
   * a tenant that holds more than its share. False when there is none.
   */
  giveWay(tenantId: string | null, priority: Priority): boolean;
  state(): BreakerState;
  /**
   * Reads that run or wait, divided by `maxReads`. One tenant alone never makes it high enough to
   * refuse anybody.
   */
  pressure(): number;
}

/** Whose read it is; of normal priority unless said. */
export interface Reader {
  tenantId: string;
  priority?: Priority;
}

export interface ReadGuardOptions {
  /** Reads that may run or wait before the load ladder begins. */
  maxReads: number;
  /** How many run at once; the others wait. */
  running?: number;
  /** Until Postgres counts as silent, for answers and for look-ups. */
  deadlineMs?: number;
  lookUpDeadlineMs?: number;
  /** Looks whether Postgres is back; no caller waits for it. */
  probe: () => PromiseLike<unknown>;
  onStateChange?: (state: BreakerState) => void;
  onRefused?: (priority: Priority) => void;
}

const FAILURES_IN_A_ROW = 3;
const HALF_OPEN_AFTER_MS = 1_000;
/** Longer than the read pool's statement timeout, which only a reachable server can enforce. */
const ANSWER_DEADLINE_MS = 16_000;
/** Look-ups take a millisecond. */
const LOOK_UP_DEADLINE_MS = 2_000;
/**
 * Low priority is refused at four times `maxReads`, where the load ladder refuses it; each higher
 * one at twice that.
 */
const FIRST_REFUSAL = 4;
/**
 * One tenant's reads alone make the answers of the process coarser, but the ladder refuses nobody.
 */
const FELT_OF_ONE = 2;

/** Less than the 75 s after which Bun hangs up on a connection that says nothing. */
const PATIENCE_MS = 60_000;
const TRY_AGAIN_MS = 1_000;

export function createReadGuard(options: ReadGuardOptions): ReadGuard {
  const {
    maxReads,
    running = READ_CONNECTIONS,
    deadlineMs = ANSWER_DEADLINE_MS,
    lookUpDeadlineMs = LOOK_UP_DEADLINE_MS,
  } = options;
  const breaker = circuitBreaker(handleWhen(isAway), {
    halfOpenAfter: HALF_OPEN_AFTER_MS,
    breaker: new ConsecutiveBreaker(FAILURES_IN_A_ROW),
  });
  breaker.onStateChange((state) => options.onStateChange?.(breakerStateOf(state)));
  const reads = createFairReads({
    running,
    limitOf: (priority) => maxReads * FIRST_REFUSAL * 2 ** PRIORITIES.indexOf(priority),
    // By then, whatever runs now has ended.
    waitMs: deadlineMs,
    felt: maxReads * FELT_OF_ONE,
    refuse: (priority) => {
      options.onRefused?.(priority);
      return new AppError("overloaded", "Too many questions are being answered; ask again shortly.", {
        retryAfterSeconds: 1,
      });
    },
  });

  function refuseWhileAway(): void {
    if (breaker.state === CircuitState.Closed) return;
    lookWhetherBack();
    throw unavailable("The database can't be reached right now.");
  }

  async function execute<T>(ask: () => PromiseLike<T>, withinMs: number): Promise<T> {
    refuseWhileAway();
    return breaker.execute(() => withDeadline(ask(), withinMs, silent));
  }

  /**
   * The breaker refuses this until it is time. While one check is under way, the next waits for it.
   */
  function lookWhetherBack(): void {
    if (breaker.state === CircuitState.HalfOpen) return;
    breaker.execute(() => withDeadline(options.probe(), lookUpDeadlineMs, silent)).catch(() => {});
  }

  async function run<T>(ask: () => PromiseLike<T>, { tenantId, priority = "normal" }: Reader): Promise<T> {
    refuseWhileAway();
    return reads.run(tenantId, priority, () => execute(ask, deadlineMs));
  }

  return {
    run,
    async runPatiently(ask, { tenantId }) {
      const startedAtMs = performance.now();
      for (;;) {
        try {
          return await run(ask, { tenantId, priority: "low" });
        } catch (error) {
          if (!isOverload(error) || performance.now() - startedAtMs > PATIENCE_MS) throw error;
          await Bun.sleep(TRY_AGAIN_MS);
        }
      }
    },
    lookUp: (ask) => execute(ask, lookUpDeadlineMs),
    giveWay: reads.giveWay,
    state: () => breakerStateOf(breaker.state),
    pressure: () => reads.pressing() / maxReads,
  };
}

/** True when a read was refused because there is too much to do. */
export function isOverload(error: unknown): boolean {
  return error instanceof AppError && error.code === "overloaded";
}

function silent(): AppError {
  return unavailable("The database does not answer.");
}

function unavailable(detail: string): AppError {
  return new AppError("unavailable", detail, { retryAfterSeconds: 1 });
}
