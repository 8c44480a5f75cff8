import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database, Sql } from "../../db/client.ts";
import { classifyFailure, retryRolledBack } from "../../db/failures.ts";
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
const MAX_DEAD_LETTERS_LISTED = 100;
const PRUNE_AT_ONCE = 10_000;
const PRUNE_MS = 20_000;

export function createRollupService({ db, log, metrics }: RollupDeps) {
  const sql = db.rollup;

  /**
   * Rolls batches up, each exactly once however often it is asked for. Failures that Postgres rolled back are repeated;
   * a poisonous batch is found by halving, noted on its ledger row and left behind, so that it stops no other. Throws
   * when Postgres can't be reached, or not in time: then nothing has happened to the batches that are left.
   */
  async function rollUp(batches: readonly BatchId[]): Promise<number> {
    if (batches.length === 0) return 0;
    const stopTimer = metrics.rollupDuration.startTimer();
    try {
      return await retryRolledBack(() => repository.rollUpBatches(sql, batches), ["retry", "locked"]);
    } catch (error) {
      const kind = classifyFailure(error);
      if (kind === "unavailable" || kind === "retry" || kind === "locked") throw error;
      const [only] = batches;
      if (batches.length === 1 && only) {
        // Too slow or cancelled says nothing against the batch: it must never become a dead letter for that.
        if (kind === "timeout") throw error;
        await noteFailure(only, error);
        return 0;
      }
      const middle = Math.ceil(batches.length / 2);
      return (await rollUp(batches.slice(0, middle))) + (await rollUp(batches.slice(middle)));
    } finally {
      stopTimer();
    }
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

  /** In small statements, until nothing is left or the time is up: the rest goes in the next round. */
  async function pruneAll(prune: (pool: Sql, limit: number) => Promise<number>): Promise<number> {
    let pruned = 0;
    for (const deadline = Date.now() + PRUNE_MS; Date.now() < deadline; ) {
      const rows = await prune(sql, PRUNE_AT_ONCE);
      pruned += rows;
      if (rows < PRUNE_AT_ONCE) break;
    }
    return pruned;
  }

  return {
    rollUp,

    /** Batches that nobody has rolled up in time, whatever became of their announcement. */
    findOverdue: (overdueMs: number, limit: number): Promise<LedgerRow[]> =>
      repository.selectOverdue(sql, overdueMs, limit),

    async listDeadLetters({ tenantId }: Pick<RequestContext, "tenantId">) {
      const rows = await repository.selectDeadLetters(sql, tenantId, MAX_DEAD_LETTERS_LISTED);
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

    /** One round of housekeeping: done ledger rows and expired deduplication keys. Returns how many rows went. */
    async prune(): Promise<number> {
      return (await pruneAll(repository.pruneLedger)) + (await pruneAll(repository.pruneEventKeys));
    },
  };
}
