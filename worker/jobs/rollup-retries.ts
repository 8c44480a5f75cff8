import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

/** The first retry is due after two seconds. */
const EVERY_MS = 1_000;

/** Apart from the sweeper: however long a failing tenant takes, nothing else waits for it. */
export function createRollupRetrying({ db, rollupRetries, log }: Deps, holder: string): PeriodicJob {
  return createPeriodicJob(db.write, log, {
    name: "roll-up retries",
    holder,
    everyMs: EVERY_MS,
    runOnce: rollupRetries.retryDue,
  });
}
