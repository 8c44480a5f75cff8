/**
 * What a process started, undone in reverse: a test file in afterAll, `./dev` when it ends. If the
 * process dies before, the kernel kills the children (guarded in processes.ts).
 */
const undo: (() => Promise<unknown> | unknown)[] = [];

/** Registers something to undo; the last registered is undone first. */
export function onCleanup(step: () => Promise<unknown> | unknown): void {
  undo.push(step);
}

export function hasCleanup(): boolean {
  return undo.length > 0;
}

/** Stops and removes everything that was registered. Throws the first failure, after trying all. */
export async function cleanup(): Promise<void> {
  const failures: unknown[] = [];
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
