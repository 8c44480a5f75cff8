import type { Invalidator } from "../../cache/invalidator.ts";
import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { BUYER_DAILY, USER_DAILY } from "./definitions.ts";
import { dropEmptyRows } from "./empty-rows-repository.ts";
import { moveEvents, movePurchases, selectUndoneBatches, waitForRebuild } from "./link-repository.ts";
import type { RollupService } from "./service.ts";

export interface SessionLinkDeps {
  db: Database;
  rollups: Pick<RollupService, "rollUp">;
  invalidator: Invalidator;
}

export type SessionLinks = ReturnType<typeof createSessionLinks>;

/**
 * Events a transaction moves. It takes a fraction of a second, in which workers may wait for the
 * same rows.
 */
const EVENTS_AT_ONCE = 2_000;
/** Events and batches of one request. Calling again continues. */
const MAX_EVENTS = 100_000;
const BATCHES_AT_ONCE = 200;
const MAX_BATCH_ROUNDS = 5;

async function moveSome(tx: Transaction, tenantId: string, sessionId: string, userId: string) {
  await waitForRebuild(tx);
  const result = await moveEvents(tx, tenantId, sessionId, userId, EVENTS_AT_ONCE);
  const notBuyers = result.purchases.length === 0 ? [] : await movePurchases(tx, tenantId, result.purchases);
  await dropEmptyRows(tx, tenantId, USER_DAILY, result.emptied);
  await dropEmptyRows(tx, tenantId, BUYER_DAILY, notBuyers);
  return result;
}

/**
 * Gives the anonymous events of a session to a user. Waiting batches are rolled up first: only then
 * no worker reads their events any more, and their counts can be moved in the transaction that
 * changes the events.
 */
export function createSessionLinks({ db, rollups, invalidator }: SessionLinkDeps) {
  async function rollUpSession(tenantId: string, sessionId: string): Promise<void> {
    for (let round = 0; round < MAX_BATCH_ROUNDS; round += 1) {
      const undone = await selectUndoneBatches(db.write, tenantId, sessionId, BATCHES_AT_ONCE);
      await rollups.rollUp(undone);
      await invalidator.invalidate(undone);
      // What came since need not be linked by this call.
      if (undone.length < BATCHES_AT_ONCE) return;
    }
  }

  return {
    /**
     * How many events got the user. Called again: 0, or the events since. Throws `unavailable`
     * while a rebuild takes long; what was linked until then stays linked.
     */
    async linkSession({ tenantId, principal }: RequestContext, sessionId: string): Promise<number> {
      if (principal.kind !== "user")
        throw new AppError("forbidden", "Only a signed-in user has events to be given.");
      const { userId } = principal;
      await rollUpSession(tenantId, sessionId);
      let linked = 0;
      while (linked < MAX_EVENTS) {
        const { moved, minMs, maxMs } = await db.transaction((tx) =>
          moveSome(tx, tenantId, sessionId, userId),
        );
        linked += moved;
        await invalidator.invalidate([{ tenantId, minMs, maxMs }]);
        if (moved < EVENTS_AT_ONCE) break;
      }
      return linked;
    },
  };
}
