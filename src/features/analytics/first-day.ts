import type { Day } from "../../core/days.ts";
import type { Sql } from "../../db/client.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import { selectFirstDay } from "./repository.ts";

const MAX_REMEMBERED = 10_000;

/**
 * The first day on which a tenant counts anything, null for none. Postgres is asked every time (one
 * row by the key), since cached answers depend on it. While Postgres is away, the last known day
 * finds the answers that are cached.
 */
export function createFirstDayReader(
  sql: Sql,
  guard: Pick<ReadGuard, "lookUp">,
): (tenantId: string) => Promise<Day | null> {
  const known = new Map<string, Day | null>();
  return async (tenantId) => {
    try {
      const day = await guard.lookUp(() => selectFirstDay(sql, tenantId));
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(tenantId, day);
      return day;
    } catch (error) {
      const last = known.get(tenantId);
      if (last === undefined) throw error;
      return last;
    }
  };
}
