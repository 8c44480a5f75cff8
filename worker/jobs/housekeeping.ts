import { pruneAll } from "../../src/db/prune.ts";
import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import {
  pruneApiKeys,
  pruneInvitations,
  prunePasswordResets,
  pruneRefreshTokens,
  pruneSignInDelays,
} from "../../src/features/identity/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;

/**
 * Deletes expired rows, each kind until none is left or its time of a round is up. docs/tables.md
 * lists every table. A kind that fails does not stop the others.
 */
export function createHousekeeping(deps: Deps, holder: string): PeriodicJob {
  const { db, log } = deps;
  const all = (prune: typeof pruneIdempotencyKeys) => () => pruneAll((limit) => prune(db.write, limit));
  const kinds: Record<string, () => Promise<number>> = {
    rollups: deps.rollups.prune,
    outbox: deps.outbox.prune,
    notifications: deps.notifications.prune,
    webhooks: deps.webhookDeliveries.prune,
    productImports: deps.catalogueImports.prune,
    orders: deps.orders.prune,
    workers: deps.orderQueue.pruneWorkers,
    audit: deps.audit.prune,
    idempotencyKeys: all(pruneIdempotencyKeys),
    refreshTokens: all(pruneRefreshTokens),
    invitations: all(pruneInvitations),
    apiKeys: all(pruneApiKeys),
    passwordResets: all(prunePasswordResets),
    signInDelays: all(pruneSignInDelays),
  };

  async function runOnce(): Promise<number> {
    let pruned = 0;
    for (const [kind, prune] of Object.entries(kinds))
      pruned += await prune().catch((error) => {
        log.warn({ kind, error: String(error) }, "pruning failed, the next round tries again");
        return 0;
      });
    return pruned;
  }
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
