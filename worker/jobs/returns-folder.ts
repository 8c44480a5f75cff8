import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

/**
 * An answer counts unfolded rows one by one: a second of a shop's new users and sessions is little.
 */
const EVERY_MS = 1_000;

/**
 * Takes new days of users and sessions into the counts of returning ones: docs/unique-visitors.md.
 */
export function createReturnsFolding({ db, returnsFolder, log }: Deps, holder: string): PeriodicJob {
  return createPeriodicJob(db.write, log, {
    name: "returns",
    holder,
    everyMs: EVERY_MS,
    runOnce: () => returnsFolder.fold(),
  });
}
