import type { Sql } from "../../db/client.ts";
import { readBacklog } from "../rollups/index.ts";

const REMEMBER_MS = 1_000;
const MAX_REMEMBERED = 10_000;

/**
 * Age in ms of the oldest event of a tenant that is not counted yet, 0 when all are. Asked beside every answer, cached
 * ones too, so it is read at most once a second and tenant.
 */
export function createLagReader(sql: Sql): (tenantId: string) => Promise<number> {
  const remembered = new Map<string, { oldestMs: Promise<number | null>; untilMs: number }>();

  function readOldest(tenantId: string): Promise<number | null> {
    const known = remembered.get(tenantId);
    if (known && known.untilMs > Date.now()) return known.oldestMs;
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    const oldestMs = readBacklog(sql, tenantId).then((backlog) => backlog.oldestMs);
    remembered.set(tenantId, { oldestMs, untilMs: Date.now() + REMEMBER_MS });
    oldestMs.catch(() => remembered.delete(tenantId));
    return oldestMs;
  }

  return async (tenantId) => {
    const oldestMs = await readOldest(tenantId);
    return oldestMs === null ? 0 : Math.max(0, Date.now() - oldestMs);
  };
}
