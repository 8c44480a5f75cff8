import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 10_000;

/** Deletes what is done or expired and no longer asked for, a bounded number of rows a round. */
export function createHousekeeping(
  { db, rollups, orders, orderQueue, log }: Deps,
  holder: string,
): PeriodicJob {
  const runOnce = async () =>
    (await rollups.prune()) +
    (await pruneIdempotencyKeys(db.write, AT_ONCE)) +
    (await orders.prune()) +
    (await orderQueue.pruneWorkers());
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
