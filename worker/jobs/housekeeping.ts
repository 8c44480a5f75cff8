import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { pruneInvitations, pruneRefreshTokens } from "../../src/features/identity/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 10_000;

/**
 * Deletes what is over, a bounded number a round: done ledger and outbox rows, old notifications and webhook deliveries,
 * expired deduplication and idempotency keys, sessions and invitations.
 */
export function createHousekeeping(
  { db, rollups, outbox, notifications, webhookDeliveries, log }: Deps,
  holder: string,
): PeriodicJob {
  async function runOnce(): Promise<number> {
    let pruned = (await rollups.prune()) + (await outbox.prune()) + (await notifications.prune());
    pruned += await webhookDeliveries.prune(AT_ONCE);
    for (const prune of [pruneIdempotencyKeys, pruneRefreshTokens, pruneInvitations])
      pruned += await prune(db.write, AT_ONCE);
    return pruned;
  }
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
