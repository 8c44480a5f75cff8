import { AppError } from "./errors.ts";
import { createFairLine } from "./fair-line.ts";
import type { Priority } from "./priority.ts";

/**
 * Runs at most `running` pieces of work at once, and at most `perKey` of one key (a tenant). The
 * others wait in a fair queue. Work that has waited `waitMs` gets `unavailable` and never begins.
 * So does work that finds `waiting` others in the queue, unless a lower priority gives way or its
 * key has less than its share.
 */
export interface FairSlots {
  run<T>(key: string, priority: Priority, work: () => Promise<T>): Promise<T>;
}

export interface FairSlotsOptions {
  running: number;
  perKey: number;
  waiting: number;
  waitMs: number;
}

export function createFairSlots({ running, perKey, waiting, waitMs }: FairSlotsOptions): FairSlots {
  const line = createFairLine({ waitMs, refuse: refusal });
  let runningNow = 0;
  const runningOf = new Map<string, number>();

  const isFree = (key: string) => runningNow < running && (runningOf.get(key) ?? 0) < perKey;

  function take(key: string): void {
    runningNow += 1;
    runningOf.set(key, (runningOf.get(key) ?? 0) + 1);
  }

  function giveBack(key: string): void {
    const left = (runningOf.get(key) ?? 0) - 1;
    if (left > 0) runningOf.set(key, left);
    else runningOf.delete(key);
    runningNow -= 1;
    const next = line.startNext(isFree);
    if (next !== undefined) take(next);
  }

  function wait(key: string, priority: Priority): Promise<void> {
    const { waiting: inLine, keys } = line.size();
    if (inLine >= waiting) {
      const own = line.waitingOf(key);
      const share = waiting / (keys + (own === 0 ? 1 : 0));
      const madeRoom = line.giveWay(priority, (other) => other === key || line.waitingOf(other) > share);
      if (!madeRoom && own + 1 > share) throw refusal();
    }
    return line.wait(key, priority);
  }

  return {
    async run(key, priority, work) {
      if (isFree(key)) take(key);
      else await wait(key, priority);
      try {
        return await work();
      } finally {
        giveBack(key);
      }
    },
  };
}

function refusal(): AppError {
  return new AppError("unavailable", "Too much of this at once; try again shortly.", {
    retryAfterSeconds: 1,
  });
}
