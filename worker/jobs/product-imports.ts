import type { Deps } from "../../src/deps.ts";
import type { Runner } from "../runner.ts";

/**
 * Runs product imports, one at a time in each worker. Any number of workers may run; one of them
 * holds each import. It is no periodic job: an import outlasts any lease, and its hold is renewed
 * with every batch.
 */
const POLL_MS = 1_000;

export interface ProductImportJob extends Runner {
  /** One import, to its end or until `stop`. Returns how many rows; null when none waits. */
  runOnce(): Promise<number | null>;
}

export function createProductImportJob({ runNextImport, log }: Deps, holder: string): ProductImportJob {
  let stopping = false;
  let timer: Timer | undefined;
  let running: Promise<void> = Promise.resolve();

  const runOnce = () => runNextImport({ holder, shouldStop: () => stopping });

  async function round(): Promise<void> {
    let rows: number | null = null;
    try {
      rows = await runOnce();
    } catch (error) {
      log.warn({ error: String(error) }, "product import interrupted, it goes on in the next round");
    }
    // While there is work, there is no wait.
    if (!stopping) schedule(rows === null ? POLL_MS : 0);
  }

  function schedule(delayMs: number): void {
    timer = setTimeout(() => {
      running = round();
    }, delayMs);
  }

  return {
    start() {
      stopping = false;
      schedule(0);
    },
    async stop() {
      stopping = true;
      clearTimeout(timer);
      await running;
    },
    runOnce,
  };
}
