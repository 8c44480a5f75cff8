import type { Invalidator } from "../../cache/invalidator.ts";
import type { RollupRetries, RollupService } from "../rollups/index.ts";

/**
 * 200,000 events a statement when batches are full: the fastest size, and far from the statement
 * timeout.
 */
const BATCHES_A_STATEMENT = 100;
/**
 * The clocks of this process and of Postgres may differ, so batches "from the future" count as
 * waiting.
 */
const CLOCK_SLACK_MS = 60_000;

/**
 * Rolls up every batch that waited when it was called, so that the numbers are complete when a
 * command ends. Workers may take some of them; later batches are left to the workers. What is
 * paused of the tenant is tried at once. Returns how many batches of the tenant could not be rolled
 * up.
 */
export async function rollUpWaiting(
  rollups: RollupService,
  retries: RollupRetries,
  invalidator: Invalidator,
  tenantId: string,
): Promise<number> {
  const startedMs = Date.now();
  let stuckPage: string | undefined;
  for (;;) {
    const overdueMs = Date.now() - startedMs - CLOCK_SLACK_MS;
    const waiting = await rollups.findOverdue(overdueMs, BATCHES_A_STATEMENT);
    const page = waiting.map(({ batchId }) => batchId).join();
    // Neither we nor a worker got any further.
    if (page === stuckPage || page === "") break;
    const claimed = await rollups.rollUp(waiting);
    await invalidator.invalidate(waiting);
    stuckPage = claimed === 0 ? page : undefined;
  }
  for (let more = true; more; ) more = (await retries.retryNow(tenantId)) > 0;
  return rollups.countOverdue(tenantId, Date.now() - startedMs - CLOCK_SLACK_MS);
}
