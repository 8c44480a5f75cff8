/** Settles as `work` does, or rejects after `timeoutMs` with what `late` makes. The work itself goes on. */
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
