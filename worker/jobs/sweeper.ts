import type { Deps } from "../../src/deps.ts";
import { oldestMessageMs } from "../../src/streams/backlog.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

/**
 * G3 and G10: what the stream forgot. A batch that is overdue, although the stream holds nothing as
 * old, has lost its announcement (Redis away, wiped, trimmed). It is rolled up here from the
 * ledger, without Redis. Batches that failed are left to the retries of their tenant. Batches that
 * still wait in the stream are left to the consumers: on a long backlog both would take the same
 * rows and wait for each other's locks.
 */
const EVERY_MS = 2_000;
const OVERDUE_MS = 8_000;
/** Between a commit and its XADD, and between the clocks of the API and of Redis. */
const MARGIN_MS = 5_000;
/** A batch this old is taken whatever the stream says. */
const HOPELESS_MS = 120_000;
const BATCHES_A_STATEMENT = 200;
const STATEMENTS_A_ROUND = 20;

export function createSweeper(
  { db, redis, announcer, rollups, invalidator, metrics, log }: Deps,
  holder: string,
): PeriodicJob {
  /** How old a batch must be to be swept, in ms. */
  async function overdueAfterMs(): Promise<number> {
    const oldestMs = await oldestMessageMs(redis, EVENT_BATCHES).catch(() => null);
    if (oldestMs === null) return OVERDUE_MS;
    return Math.min(Math.max(OVERDUE_MS, Date.now() - oldestMs + MARGIN_MS), HOPELESS_MS);
  }

  async function runOnce(): Promise<number> {
    const afterMs = await overdueAfterMs();
    await rollups.holdPaused(OVERDUE_MS);
    let swept = 0;
    for (let statement = 0; statement < STATEMENTS_A_ROUND; statement += 1) {
      const overdue = await rollups.findOverdue(afterMs, BATCHES_A_STATEMENT);
      if (overdue.length === 0) break;
      // Announced again, too: if this process dies between the commit and the tags, the message
      // deletes them.
      await announcer.announce(overdue);
      const claimed = await rollups.rollUp(overdue);
      metrics.batchesRolledUp.inc({ by: "sweeper" }, claimed);
      swept += claimed;
      await invalidator.invalidate(overdue);
      // What is left of this page failed, or others have it.
      if (claimed < overdue.length) break;
    }
    if (swept > 0) log.info({ batches: swept }, "overdue batches rolled up by the sweeper");
    else await invalidator.invalidate([]);
    return swept;
  }

  return createPeriodicJob(db.write, log, { name: "sweeper", holder, everyMs: EVERY_MS, runOnce });
}
