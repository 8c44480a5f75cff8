import { cleanup, hasCleanup } from "./cleanup.ts";
import { Refusal, say } from "./messages.ts";
import { stopWaiting } from "./processes.ts";

const SIGNAL_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

let leaving = false;
let stoppingIsSuccess = false;

/**
 * From now on a signal ends `./dev` with exit code 0: something runs, and stopping it was the wish.
 */
export function countStoppingAsSuccess(): void {
  stoppingIsSuccess = true;
}

/** Undoes everything and ends the process. A second signal skips the waiting. */
export async function leave(code: number): Promise<never> {
  leaving = true;
  if (hasCleanup()) say("stopping");
  await cleanup().catch((error: unknown) => console.error(`error: ${explain(error)}`));
  process.exit(code);
}

/**
 * Runs a command of `./dev` to its exit code; a signal meanwhile stops what it started, in order.
 */
export async function runCommand(command: () => Promise<number>): Promise<never> {
  for (const [signal, code] of Object.entries(SIGNAL_CODES))
    process.on(signal, () => {
      if (leaving) stopWaiting();
      else void leave(stoppingIsSuccess ? 0 : code);
    });
  const code = await command().catch((error: unknown) => {
    if (!leaving) console.error(`error: ${explain(error)}`);
    return 1;
  });
  // A signal stopped the command: the exit that the signal started ends the process.
  if (leaving) return new Promise<never>(() => {});
  return leave(code);
}

function explain(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
