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
  /** Deletes the tags of everything computed from these ranges. Never throws: what fails is owed and tried again. */
  invalidate(ranges: readonly ChangedRange[]): Promise<void>;
}

export function createInvalidator(redis: Redis, metrics: Metrics): Invalidator {
  /** Tags whose deletion failed, by tenant: Redis may come back with the old values still in it. */
  const owed = new Map<string, Set<string>>();

  return {
    async invalidate(ranges) {
      for (const { tenantId, minMs, maxMs } of ranges) {
        if (minMs === null || maxMs === null) continue;
        const tags = owed.get(tenantId) ?? new Set();
        for (const tag of analyticsTagsOfInstants(minMs, maxMs)) tags.add(tag);
        owed.set(tenantId, tags);
      }
      for (const [tenantId, tags] of owed) {
        try {
          await deleteTags(redis, tenantId, [...tags]);
          owed.delete(tenantId);
        } catch {
          metrics.redisFallbacks.inc({ operation: "invalidate" });
          return;
        }
      }
    },
  };
}
