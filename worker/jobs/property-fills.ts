import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 1_000;

/**
 * Fills properties that were chosen late, and clears those that were given up: see
 * features/rollups/property-fills.ts.
 */
export function createPropertyFilling({ db, propertyFills, log }: Deps, holder: string): PeriodicJob {
  return createPeriodicJob(db.write, log, {
    name: "property-fills",
    holder,
    everyMs: EVERY_MS,
    runOnce: () => propertyFills.fill(),
  });
}
