import type { Deps } from "../../src/deps.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { createPeriodicJob, type PeriodicJob } from "../periodic.ts";

const EVERY_MS = 60_000;
const AT_ONCE = 10_000;

/** Deletes done ledger rows, expired keys, broken uploads and old reports of imports, a bounded number a round. */
export function createHousekeeping(
  { db, rollups, catalogueImports, log }: Deps,
  holder: string,
): PeriodicJob {
  const runOnce = async () =>
    (await rollups.prune()) +
    (await pruneIdempotencyKeys(db.write, AT_ONCE)) +
    (await catalogueImports.prune());
  return createPeriodicJob(db.write, log, { name: "housekeeping", holder, everyMs: EVERY_MS, runOnce });
}
