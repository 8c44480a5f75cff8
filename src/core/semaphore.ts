import { AppError } from "./errors.ts";

/**
 * Runs at most `maxRunning` pieces of work at once. When `maxWaiting` wait already, `run` throws
 * `unavailable`.
 */
export interface Semaphore {
  run<T>(work: () => Promise<T>): Promise<T>;
}

export function createSemaphore(maxRunning: number, maxWaiting: number): Semaphore {
  let running = 0;
  const waiting: (() => void)[] = [];
  return {
    async run(work) {
      if (running < maxRunning) running += 1;
      else if (waiting.length >= maxWaiting)
        throw new AppError("unavailable", "Too much of this at once; try again shortly.");
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await work();
      } finally {
        // The slot goes straight to the next one that waits. Only when none waits, it becomes free.
        const next = waiting.shift();
        if (next) next();
        else running -= 1;
      }
    },
  };
}
