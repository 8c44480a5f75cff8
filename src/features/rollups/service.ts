import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { isolatePoison, isolateTenants } from "../../db/isolate-poison.ts";
import { pruneAll } from "../../db/prune.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { recordAudit } from "../audit/index.ts";
import { holdBatches, pauseTenant, retrySoon } from "./failing-repository.ts";
import type { BatchId, LedgerRow } from "./repository.ts";
import * as repository from "./repository.ts";

export interface RollupDeps {
  db: Database;
  log: Log;
  metrics: Metrics;
}

export type RollupService = ReturnType<typeof createRollupService>;

/**
 * A batch that failed this often is a dead letter. The retries of its tenant make the tries
 * (failing-tenants.ts).
 */
const MAX_ATTEMPTS = 5;
const MAX_HELD_AT_ONCE = 5_000;
const MAX_ERROR_LENGTH = 1_000;

export function createRollupService({ db, log, metrics }: RollupDeps) {
  const sql = db.rollup;

  /**
   * Rolls batches up, each exactly once however often it is asked to. What Postgres rolled back is
   * repeated. A tenant whose batches can't be rolled up is found by halving and paused, so that it
   * stops no other. Throws when Postgres can't be reached: then nothing has happened to the batches
   * that are left.
   */
  async function rollUp(batches: readonly BatchId[]): Promise<number> {
    return sum(await isolateTenants(batches, (some) => rollUpTimed(some, false), pause));
  }

  /**
   * For a failing tenant. Halving finds a poisonous batch, which is recorded on its ledger row.
   * Throws as `rollUp`, and for a timeout.
   */
  async function rollUpHeld(batches: readonly BatchId[]): Promise<{ claimed: number; failed: boolean }> {
    let failed = false;
    const claimed = await isolatePoison(
      batches,
      (some) => rollUpTimed(some, true),
      (batch, error) => {
        failed = true;
        return noteFailure(batch, error);
      },
    );
    return { claimed: sum(claimed), failed };
  }

  async function rollUpTimed(batches: readonly BatchId[], held: boolean): Promise<number> {
    const stopTimer = metrics.rollupDuration.startTimer();
    return repository.rollUpBatches(sql, batches, held).finally(stopTimer);
  }

  async function pause(batches: readonly BatchId[], error: unknown): Promise<void> {
    const [first] = batches;
    if (!first) return;
    const { tenantId } = first;
    const message = messageOf(error);
    await pauseTenant(sql, tenantId, message);
    metrics.rollupsPaused.inc();
    log.error({ tenantId, batches: batches.length, error: message }, "tenant can't be rolled up, paused");
  }

  async function noteFailure(batch: BatchId, error: unknown): Promise<void> {
    const message = messageOf(error);
    const dead = await repository.recordFailure(sql, batch, message, MAX_ATTEMPTS);
    if (dead) metrics.batchesDeadLettered.inc();
    log.error(
      { ...batch, error: message, dead },
      dead ? "batch dead-lettered" : "batch could not be rolled up",
    );
  }

  return {
    rollUp,
    rollUpHeld,

    /** Batches that nobody has rolled up in time, whatever became of their announcement. */
    findOverdue: (overdueMs: number, limit: number): Promise<LedgerRow[]> =>
      repository.selectOverdue(sql, overdueMs, limit),

    /** How many batches of a tenant wait for longer than that, for whatever reason. */
    countOverdue: (tenantId: string, overdueMs: number): Promise<number> =>
      repository.countOverdue(sql, tenantId, overdueMs),

    /** Hides the waiting batches of paused tenants from `findOverdue`. */
    holdPaused: (overdueMs: number): Promise<number> => holdBatches(sql, overdueMs, MAX_HELD_AT_ONCE),

    /**
     * Call it in the transaction that mends the cause: all that could not be rolled up is tried
     * again, dead letters too.
     */
    retryAll: (tx: Transaction, tenantId: string): Promise<void> => retrySoon(tx, tenantId, true),

    async listDeadLetters(
      { tenantId }: Pick<RequestContext, "tenantId">,
      page: { limit: number; after?: repository.DeadLetterPlace },
    ) {
      const rows = await repository.selectDeadLetters(sql, tenantId, page);
      return rows.map((row) => ({
        ...row,
        kind: "event_batch" as const,
        receivedAt: row.receivedAt.toISOString(),
        deadLetteredAt: row.deadLetteredAt.toISOString(),
      }));
    },

    /** Throws `not_found`. It is tried within seconds, alone. */
    async retryDeadLetter(ctx: RequestContext, id: string): Promise<void> {
      await db.transaction(async (tx) => {
        const revived = isUuid(id) && (await repository.reviveDeadLetter(tx, ctx.tenantId, id));
        if (!revived) throw new AppError("not_found", "There is no such dead letter.");
        await retrySoon(tx, ctx.tenantId, false);
        await recordAudit(tx, ctx, { action: "dead_letter.retried", target: id });
      });
    },

    /**
     * After a load: Postgres gathers statistics by itself within a minute, and until then plans as
     * for empty tables. Throws when a lock or the work takes too long.
     */
    async refreshStatistics(): Promise<void> {
      await db.transactions.begin(repository.analyzeRollups);
    },

    /**
     * One round of housekeeping: done ledger rows and expired deduplication keys. Returns how many
     * rows went.
     */
    async prune(): Promise<number> {
      const ledger = await pruneAll((limit) => repository.pruneLedger(sql, limit));
      return ledger + (await pruneAll((limit) => repository.pruneEventKeys(sql, limit)));
    },
  };
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, MAX_ERROR_LENGTH);
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, n) => total + n, 0);
}
