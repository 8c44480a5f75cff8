import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;

/** Deletes done ledger rows and expired deduplication keys, a bounded number a round. */
export function createHousekeeping({ db, rollups, log }: Deps, holder: string): PeriodicJob {
  return createPeriodicJob(db.write, log, {
    name: "housekeeping",
    holder,
    everyMs: EVERY_MS,
    runOnce: rollups.prune,
  });
}
