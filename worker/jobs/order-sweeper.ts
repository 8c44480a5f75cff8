import type { Deps } from "../../src/deps.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

/** Half of the first retry's delay, so that retries are on time. */
const EVERY_MS = 500;
const GROUPS_A_ROUND = 500;

/**
 * G3 for orders: groups whose first command is due for a retry, or that the stream forgot. They are
 * handled here, straight from Postgres, without Redis.
 */
export function createOrderSweeper({ db, orderHandling, log }: Deps, holder: string): PeriodicJob {
  const runOnce = async (): Promise<number> =>
    orderHandling.handleGroups(await orderHandling.findDue(GROUPS_A_ROUND), holder);

  return createPeriodicJob(db.write, log, { name: "order sweeper", holder, everyMs: EVERY_MS, runOnce });
}
