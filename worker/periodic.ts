import type { Sql } from "../src/db/client.ts";
import { acquireLease } from "../src/db/lease.ts";
import type { Log } from "../src/telemetry/log.ts";
import type { Runner } from "./runner.ts";

/**
 * A job that one worker at a time runs at intervals. The lease outlives two rounds, so a dead
 * holder is soon replaced. A job that runs longer than its lease may run on two workers at once,
 * which every job here allows.
 */
export interface PeriodicOptions {
  name: string;
  holder: string;
  everyMs: number;
  /** Does one round and returns how much it did. */
  runOnce(): Promise<number>;
}

export interface PeriodicJob extends Runner {
  /** One round if the lease can be had; null when another worker holds it. */
  runOnce(): Promise<number | null>;
}

const MIN_LEASE_MS = 5_000;
/** Workers started together must not ask together for ever. */
const JITTER = 0.2;

export function createPeriodicJob(sql: Sql, log: Log, options: PeriodicOptions): PeriodicJob {
  const { name, holder, everyMs } = options;
  const leaseMs = Math.max(2.5 * everyMs, MIN_LEASE_MS);
  let timer: Timer | undefined;
  let running: Promise<unknown> = Promise.resolve();
  let stopped = true;

  async function runOnce(): Promise<number | null> {
    if (!(await acquireLease(sql, name, holder, leaseMs))) return null;
    return options.runOnce();
  }

  async function round(): Promise<void> {
    try {
      const done = await runOnce();
      if (done) log.debug({ job: name, done }, "periodic job done");
    } catch (error) {
      log.warn({ job: name, error: String(error) }, "periodic job failed, next round tries again");
    }
    if (!stopped) schedule(everyMs);
  }

  function schedule(delayMs: number): void {
    timer = setTimeout(
      () => {
        running = round();
      },
      delayMs * (1 - JITTER / 2 + Math.random() * JITTER),
    );
  }

  return {
    start() {
      stopped = false;
      schedule(Math.min(everyMs, 500));
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
    runOnce,
  };
}
