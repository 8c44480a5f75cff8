import type { Invalidator } from "../../cache/invalidator.ts";
import { AppError } from "../../core/errors.ts";
import { newId } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Announcer } from "../../streams/producer.ts";
import { recordAudit } from "../audit/index.ts";
import { timeOfEvent } from "../events/index.ts";
import { waitForRebuild } from "./link-repository.ts";
import { lockProperties } from "./property-fills-repository.ts";
import { type LedgerRow, rollUpBatches } from "./repository.ts";
import type { EventKey, VoidableEvent } from "./void-repository.ts";
import * as repository from "./void-repository.ts";

export interface EventVoidDeps {
  db: Database;
  invalidator: Invalidator;
  announcer: Announcer;
  /** Why an event has to stay, since it stands for a sale made here; null for any other. */
  whyKept(tx: Transaction, tenantId: string, event: VoidableEvent & EventKey): Promise<string | null>;
}

export type EventVoids = ReturnType<typeof createEventVoids>;

export interface VoidedEvent {
  id: string;
  voidedAt: string;
  alreadyVoided: boolean;
}

/**
 * Takes an event out of every figure, exactly once: its mark and the changes of the rollups are one
 * transaction. If its batch is not rolled up yet, that transaction rolls it up without the event. A
 * worker that had read the batch before would count the event after it was marked, so the ledger
 * row decides who comes first. See docs/voiding.md.
 */
export function createEventVoids({ db, invalidator, announcer, whyKept }: EventVoidDeps) {
  async function voidOnce(tx: Transaction, ctx: RequestContext, key: EventKey) {
    const { tenantId } = ctx;
    // In the same order as fills of properties.
    await lockProperties(tx, tenantId);
    await waitForRebuild(tx);
    const event = await repository.selectVoidable(tx, tenantId, key);
    if (!event) return null;
    const timeMs = Date.parse(key.ts);
    const change = { tenantId, batchId: newId(), minMs: timeMs, maxMs: timeMs };
    if (event.voidedAt) return { change, voidedAt: event.voidedAt.toISOString(), alreadyVoided: true };
    const reason = await whyKept(tx, tenantId, { ...event, ...key });
    if (reason !== null) throw new AppError("conflict", reason);

    const voidedAt = new Date().toISOString();
    const undone = await repository.lockUndoneBatch(tx, { tenantId, batchId: event.batchId });
    const voided = undone
      ? await repository.markVoided(tx, tenantId, key, voidedAt)
      : await repository.takeOut(tx, tenantId, key, voidedAt);
    if (!voided) return { change, voidedAt: await voidedMeanwhile(tx, tenantId, key), alreadyVoided: true };
    if (undone) {
      await countOthers(tx, undone);
      change.minMs = undone.minMs ?? timeMs;
      change.maxMs = undone.maxMs ?? timeMs;
    }
    await repository.insertChange(tx, change, voidedAt);
    const { batchId, messageId, properties, voidedAt: _, ...before } = event;
    const audited = { ...before, timestamp: key.ts, voidedAt: null };
    await recordAudit(tx, ctx, {
      action: "event.voided",
      target: key.id,
      before: audited,
      after: { ...audited, voidedAt },
    });
    return { change, voidedAt, alreadyVoided: false };
  }

  return {
    /**
     * Called again, it says `alreadyVoided`. Throws `not_found`, `conflict` for a sale made here,
     * and `unavailable` while a rebuild takes long.
     */
    async voidEvent(ctx: RequestContext, id: string): Promise<VoidedEvent> {
      const ts = timeOfEvent(id);
      const outcome = ts === null ? null : await db.transaction((tx) => voidOnce(tx, ctx, { id, ts }));
      if (!outcome)
        throw new AppError("not_found", "There is no such event; perhaps its raw data is no longer kept.");
      const { change, voidedAt, alreadyVoided } = outcome;
      // Also when nothing was changed: an earlier call may have committed and been killed.
      await invalidator.invalidate([change]);
      if (!alreadyVoided) void announcer.announce([change]);
      return { id, voidedAt, alreadyVoided };
    },
  };
}

async function voidedMeanwhile(tx: Transaction, tenantId: string, key: EventKey): Promise<string> {
  const event = await repository.selectVoidable(tx, tenantId, key);
  return (event?.voidedAt ?? new Date()).toISOString();
}

/** Even if it was held or given up before: this event may have been the problem of its batch. */
async function countOthers(tx: Transaction, batch: LedgerRow): Promise<void> {
  try {
    await rollUpBatches(tx, [batch], true);
  } catch (error) {
    if (classifyFailure(error) !== "data") throw error;
    throw new AppError(
      "conflict",
      "Other events that were stored together with this one can't be counted: look at the dead letters first.",
      { cause: error },
    );
  }
}
