import { pruneAll } from "../../src/db/prune.ts";
import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { pruneInvitations, pruneRefreshTokens } from "../../src/features/identity/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;

/**
 * Deletes what is over, each kind for a bounded time a round: done ledger and outbox rows, old notifications and webhook
 * deliveries, broken uploads and old reports of imports, done order commands, silent workers, expired deduplication and
 * idempotency keys, sessions and invitations.
 */
export function createHousekeeping(
  { db, rollups, outbox, notifications, webhookDeliveries, catalogueImports, orders, orderQueue, log }: Deps,
  holder: string,
): PeriodicJob {
  async function runOnce(): Promise<number> {
    let pruned = (await rollups.prune()) + (await outbox.prune()) + (await notifications.prune());
    pruned += (await webhookDeliveries.prune()) + (await catalogueImports.prune());
    pruned += (await orders.prune()) + (await orderQueue.pruneWorkers());
    for (const prune of [pruneIdempotencyKeys, pruneRefreshTokens, pruneInvitations])
      pruned += await pruneAll((limit) => prune(db.write, limit));
    return pruned;
  }
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
