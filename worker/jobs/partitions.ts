import { ensurePartitionsAhead } from "../../src/db/partitions.ts";
import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 3_600_000;

/** Makes the partitions of the coming months long before an event needs them. */
export function createPartitionKeeper({ db, log }: Deps, holder: string): PeriodicJob {
  async function runOnce(): Promise<number> {
    await ensurePartitionsAhead(db.write, Date.now());
    return 0;
  }
  return createPeriodicJob(db.write, log, { name: "partitions", holder, everyMs: EVERY_MS, runOnce });
}
