import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { isolatePoison } from "../../db/isolate-poison.ts";
import { pruneAll } from "../../db/prune.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { recordAudit } from "../audit/index.ts";
import type { BatchId, LedgerRow } from "./repository.ts";
import * as repository from "./repository.ts";

export interface RollupDeps {
  db: Database;
  log: Log;
  metrics: Metrics;
}

export type RollupService = ReturnType<typeof createRollupService>;

/** A batch that failed this often is a dead letter; the sweeper makes the tries, some seconds apart. */
const MAX_ATTEMPTS = 5;

export function createRollupService({ db, log, metrics }: RollupDeps) {
  const sql = db.rollup;

  /**
   * Rolls batches up, each exactly once however often it is asked for. Failures that Postgres rolled back are repeated;
   * a poisonous batch is found by halving, noted on its ledger row and left behind, so that it stops no other. Throws
   * when Postgres can't be reached, or not in time: then nothing has happened to the batches that are left.
   */
  async function rollUp(batches: readonly BatchId[]): Promise<number> {
    const claimed = await isolatePoison(batches, rollUpTimed, noteFailure);
    return claimed.reduce((sum, n) => sum + n, 0);
  }

  async function rollUpTimed(batches: readonly BatchId[]): Promise<number> {
    const stopTimer = metrics.rollupDuration.startTimer();
    return repository.rollUpBatches(sql, batches).finally(stopTimer);
  }

  async function noteFailure(batch: BatchId, error: unknown): Promise<void> {
    const message = error instanceof Error ? error.message : String(error);
    const dead = await repository.recordFailure(sql, batch, message.slice(0, 1_000), MAX_ATTEMPTS);
    if (dead) metrics.batchesDeadLettered.inc();
    log.error(
      { ...batch, error: message, dead },
      dead ? "batch dead-lettered" : "batch could not be rolled up",
    );
  }

  return {
    rollUp,

    /** Batches that nobody has rolled up in time, whatever became of their announcement. */
    findOverdue: (overdueMs: number, limit: number): Promise<LedgerRow[]> =>
      repository.selectOverdue(sql, overdueMs, limit),

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

    /** Throws `not_found`. The sweeper takes the batch up within seconds. */
    async retryDeadLetter(ctx: RequestContext, id: string): Promise<void> {
      await db.transaction(async (tx) => {
        const revived = isUuid(id) && (await repository.reviveDeadLetter(tx, ctx.tenantId, id));
        if (!revived) throw new AppError("not_found", "There is no such dead letter.");
        await recordAudit(tx, ctx, { action: "dead_letter.retried", target: id });
      });
    },

    /**
     * After a load: Postgres gathers statistics by itself within a minute, and until then plans as for empty tables. Throws
     * where a lock or the work itself takes too long.
     */
    async refreshStatistics(): Promise<void> {
      await db.transactions.begin(repository.analyzeRollups);
    },

    /** One round of housekeeping: done ledger rows and expired deduplication keys. Returns how many rows went. */
    async prune(): Promise<number> {
      const ledger = await pruneAll((limit) => repository.pruneLedger(sql, limit));
      return ledger + (await pruneAll((limit) => repository.pruneEventKeys(sql, limit)));
    },
  };
}
