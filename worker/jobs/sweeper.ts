import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

/**
 * G3 and G10: what the stream forgot. Batches that are not rolled up some seconds after their commit (announcement
 * lost, Redis away or wiped, a failed try) are taken straight from the ledger. They are rolled up here and not announced
 * again: that needs no Redis, and a long backlog does not fill the stream with second announcements.
 */
const EVERY_MS = 2_000;
const OVERDUE_MS = 8_000;
const BATCHES_A_STATEMENT = 200;
const STATEMENTS_A_ROUND = 20;

export function createSweeper({ db, rollups, invalidator, metrics, log }: Deps, holder: string): PeriodicJob {
  async function runOnce(): Promise<number> {
    let swept = 0;
    for (let statement = 0; statement < STATEMENTS_A_ROUND; statement += 1) {
      const overdue = await rollups.findOverdue(OVERDUE_MS, BATCHES_A_STATEMENT);
      if (overdue.length === 0) break;
      const claimed = await rollups.rollUp(overdue);
      metrics.batchesRolledUp.inc({ by: "sweeper" }, claimed);
      swept += claimed;
      await invalidator.invalidate(overdue);
      // What is left of this page failed: the next round tries it again, not this one.
      if (claimed < overdue.length) break;
    }
    if (swept > 0) log.info({ batches: swept }, "overdue batches rolled up by the sweeper");
    else await invalidator.invalidate([]);
    return swept;
  }

  return createPeriodicJob(db.write, log, { name: "sweeper", holder, everyMs: EVERY_MS, runOnce });
}
