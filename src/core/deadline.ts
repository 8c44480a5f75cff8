/**
 * Settles as `work` does, or rejects after `timeoutMs` with what `late` makes. The work itself is
 * not stopped.
 */
export async function withDeadline<T>(
  work: PromiseLike<T>,
  timeoutMs: number,
  late: () => Error,
): Promise<T> {
  let timer: Timer | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), timeoutMs);
  });
  return Promise.race([work, timeout]).finally(() => clearTimeout(timer));
}

export type InTime = <T>(work: Promise<T>) => Promise<T>;

const LOOK_EVERY_MS = 1_000;

/**
 * The same for thousands of pieces of work: they share one timer, so a deadline may end up to a
 * second late.
 */
export function createDeadline(timeoutMs: number, late: () => Error): InTime {
  // In order of arrival, and so of deadlines.
  const running = new Set<{ untilMs: number; reject(error: Error): void }>();
  setInterval(() => {
    const now = performance.now();
    for (const one of running) {
      if (one.untilMs > now) return;
      running.delete(one);
      one.reject(late());
    }
  }, LOOK_EVERY_MS).unref();

  // Without Promise.race, which makes three more promises.
  return (work) =>
    new Promise((resolve, reject) => {
      const one = { untilMs: performance.now() + timeoutMs, reject };
      running.add(one);
      const settle =
        <V>(how: (value: V) => void) =>
        (value: V) => {
          running.delete(one);
          how(value);
        };
      work.then(settle(resolve), settle(reject));
    });
}
