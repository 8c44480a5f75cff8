import type { Redis } from "ioredis";
import type { Metrics } from "../telemetry/metrics.ts";
import { analyticsTagsOfInstants, deleteTags } from "./tags.ts";

/** Events of a tenant that have just changed its rollups, by the range of their times in ms. */
export interface ChangedRange {
  tenantId: string;
  minMs: number | null;
  maxMs: number | null;
}

export interface Invalidator {
  /**
   * Deletes the tags of everything computed from these ranges. Never throws: what fails is owed and
   * tried again.
   */
  invalidate(ranges: readonly ChangedRange[]): Promise<void>;
  /** The same for tags of one tenant. Call it after the commit of the change. */
  invalidateTags(tenantId: string, tags: readonly string[]): Promise<void>;
  /**
   * For a process that is about to end. Resolves with false when something is still owed after
   * `timeoutMs`.
   */
  settle(timeoutMs: number): Promise<boolean>;
}

const RETRY_MS = 1_000;
const SETTLE_EVERY_MS = 100;

export function createInvalidator(redis: Redis, metrics: Metrics): Invalidator {
  /** Tags whose deletion failed, by tenant: Redis may come back with the old values still in it. */
  let owed = new Map<string, Set<string>>();

  /** What is being deleted is in nobody's sight meanwhile. */
  let underWay = 0;

  let retryScheduled = false;
  redis.on("ready", () => void deleteDue(new Map()));

  async function deleteDue(wanted: ReadonlyMap<string, ReadonlySet<string>>): Promise<void> {
    // Taken whole, so that no concurrent call can drop what this one has still to delete.
    const due = owed;
    owed = new Map();
    underWay += 1;
    for (const [tenantId, tags] of wanted) due.set(tenantId, tags.union(due.get(tenantId) ?? new Set()));
    for (const [tenantId, tags] of due) {
      try {
        await deleteTags(redis, tenantId, [...tags]);
        due.delete(tenantId);
      } catch {
        metrics.redisFallbacks.inc({ operation: "invalidate" });
        break;
      }
    }
    for (const [tenantId, tags] of due) owed.set(tenantId, tags.union(owed.get(tenantId) ?? new Set()));
    underWay -= 1;
    if (owed.size > 0) scheduleRetry();
  }

  /**
   * Without a timer, no call might come to delete the owed tags, and until then the old values are
   * hits.
   */
  function scheduleRetry(): void {
    if (retryScheduled) return;
    retryScheduled = true;
    const timer = setTimeout(() => {
      retryScheduled = false;
      void deleteDue(new Map());
    }, RETRY_MS);
    timer.unref();
  }

  return {
    invalidate(ranges) {
      const wanted = new Map<string, Set<string>>();
      for (const { tenantId, minMs, maxMs } of ranges) {
        if (minMs === null || maxMs === null) continue;
        const tags = wanted.get(tenantId) ?? new Set();
        for (const tag of analyticsTagsOfInstants(minMs, maxMs)) tags.add(tag);
        wanted.set(tenantId, tags);
      }
      return deleteDue(wanted);
    },
    invalidateTags: (tenantId, tags) => deleteDue(new Map([[tenantId, new Set(tags)]])),
    async settle(timeoutMs) {
      for (const deadline = Date.now() + timeoutMs; owed.size > 0 || underWay > 0; ) {
        if (Date.now() >= deadline) return false;
        await Bun.sleep(SETTLE_EVERY_MS);
        await deleteDue(new Map());
      }
      return true;
    },
  };
}
