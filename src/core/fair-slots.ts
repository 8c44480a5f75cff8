import { AppError } from "./errors.ts";

/**
 * Runs at most `running` pieces of work at once, and at most `perKey` of one key (a tenant), so that one whose work hangs
 * takes no other's turn. Keys that wait take turns. Who has waited `waitMs`, or finds `waiting` in line, gets
 * `unavailable`, and its work never begins.
 */
export interface FairSlots {
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

export interface FairSlotsOptions {
  running: number;
  perKey: number;
  waiting: number;
  waitMs: number;
}

export function createFairSlots({ running, perKey, waiting, waitMs }: FairSlotsOptions): FairSlots {
  let runningNow = 0;
  let waitingNow = 0;
  const runningOf = new Map<string, number>();
  /** The key whose turn is next stands first; a key is here only while one of its waits. */
  const lines = new Map<string, Set<() => void>>();

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
    for (const [next, line] of lines) {
      const [start] = line;
      if (!start || !isFree(next)) continue;
      leave(next, start);
      const rest = lines.get(next);
      if (rest) {
        lines.delete(next);
        lines.set(next, rest);
      }
      take(next);
      start();
      return;
    }
  }

  function leave(key: string, start: () => void): void {
    const line = lines.get(key);
    if (!line?.delete(start)) return;
    waitingNow -= 1;
    if (line.size === 0) lines.delete(key);
  }

  function wait(key: string): Promise<void> {
    if (waitingNow >= waiting) throw refusal();
    return new Promise((resolve, reject) => {
      const start = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        leave(key, start);
        reject(refusal());
      }, waitMs);
      const line = lines.get(key) ?? new Set();
      lines.set(key, line.add(start));
      waitingNow += 1;
    });
  }

  return {
    async run(key, work) {
      if (isFree(key)) take(key);
      else await wait(key);
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
