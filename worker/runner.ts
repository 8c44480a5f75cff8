import { releaseLeases } from "../src/db/lease.ts";
import type { Deps } from "../src/deps.ts";

/** A long-lived part of the worker. `stop` is idempotent and resolves when its work is done. */
export interface Runner {
  start(): void;
  stop(): Promise<void>;
}

/** Starts parts together and stops them in reverse order, then gives this worker's leases back. */
export function createRunner({ db, log }: Deps, name: string, parts: readonly Runner[]): Runner {
  return {
    start() {
      for (const part of parts) part.start();
    },
    async stop() {
      for (const part of parts.toReversed()) await part.stop();
      await releaseLeases(db.write, name).catch((error) =>
        log.warn({ error: String(error) }, "leases were not given back"),
      );
    },
  };
}
