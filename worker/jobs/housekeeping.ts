import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 10_000;

/** Deletes done ledger and outbox rows, old notifications and webhook deliveries, expired deduplication and idempotency keys, some a round. */
export function createHousekeeping(
  { db, rollups, outbox, notifications, webhookDeliveries, log }: Deps,
  holder: string,
): PeriodicJob {
  const runOnce = async () =>
    (await rollups.prune()) +
    (await outbox.prune()) +
    (await notifications.prune()) +
    (await webhookDeliveries.prune(AT_ONCE)) +
    (await pruneIdempotencyKeys(db.write, AT_ONCE));
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
