import { classifyFailure, isAway } from "../../db/failures.ts";

const REMEMBER_MS = 1_000;
const MAX_REMEMBERED = 10_000;

/**
 * Age in ms of a tenant's oldest event that is not counted yet, 0 when all are. Every answer asks
 * for it, cached ones too, so it is read at most once a second and tenant. While Postgres is away,
 * the last value grows with time.
 */
export function createLagReader(
  readBacklog: (tenantId: string) => Promise<{ oldestMs: number | null }>,
): (tenantId: string) => Promise<number> {
  const remembered = new Map<string, { oldestMs: Promise<number | null>; untilMs: number }>();

  function readOldest(tenantId: string): Promise<number | null> {
    const known = remembered.get(tenantId);
    if (known && known.untilMs > Date.now()) return known.oldestMs;
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    const oldestMs = readBacklog(tenantId).then(
      (backlog) => backlog.oldestMs,
      (error) => {
        // Nothing is stored or counted meanwhile, so what waited still does. A slow read must not
        // hold up the answer.
        if (isAway(error) || classifyFailure(error) === "timeout") return known?.oldestMs ?? null;
        remembered.delete(tenantId);
        throw error;
      },
    );
    remembered.set(tenantId, { oldestMs, untilMs: Date.now() + REMEMBER_MS });
    return oldestMs;
  }

  return async (tenantId) => {
    const oldestMs = await readOldest(tenantId);
    return oldestMs === null ? 0 : Math.max(0, Date.now() - oldestMs);
  };
}
