import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 10_000;

/** Deletes done ledger rows, expired keys and old webhook deliveries, a bounded number a round. */
export function createHousekeeping(
  { db, rollups, webhookDeliveries, log }: Deps,
  holder: string,
): PeriodicJob {
  async function runOnce(): Promise<number> {
    const pruned = (await rollups.prune()) + (await pruneIdempotencyKeys(db.write, AT_ONCE));
    return pruned + (await webhookDeliveries.prune(AT_ONCE));
  }
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
