import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

/** Half of the first retry's delay, so that retries are not much later than they should be. */
const EVERY_MS = 500;
const GROUPS_A_ROUND = 500;
const GROUPS_AT_ONCE = 100;

/**
 * G3 for orders: groups whose head is due for a retry, or that the stream forgot. They are handled here, straight from
 * Postgres, which needs no Redis.
 */
export function createOrderSweeper({ db, orderHandling, log }: Deps, holder: string): PeriodicJob {
  async function runOnce(): Promise<number> {
    const due = await orderHandling.findDue(GROUPS_A_ROUND);
    let handled = 0;
    for (const [tenantId, groups] of Map.groupBy(due, (group) => group.tenantId)) {
      for (let start = 0; start < groups.length; start += GROUPS_AT_ONCE) {
        const some = groups.slice(start, start + GROUPS_AT_ONCE).map(({ groupId }) => groupId);
        handled += await orderHandling.handle(tenantId, some, holder);
      }
    }
    return handled;
  }

  return createPeriodicJob(db.write, log, { name: "order sweeper", holder, everyMs: EVERY_MS, runOnce });
}
