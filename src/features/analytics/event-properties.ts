import type { Cache } from "../../cache/cache.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import { readPropertyChoice } from "../rollups/index.ts";
import { selectSample } from "./event-properties-repository.ts";

/** As many events are read in some tenths of a second, whatever they carry. */
const SAMPLED_EVENTS = 5_000;
const MAX_NAMES = 200;
const TOP_VALUES = 5;
const VALUE_CHARACTERS = 256;
const FRESH_SECONDS = 60;

export interface EventPropertiesDeps {
  sql: Sql;
  cache: Cache;
  readGuard: Pick<ReadGuard, "run">;
}

/** What events carry, so that one can choose what to break down by. */
export function createEventProperties({ sql, cache, readGuard }: EventPropertiesDeps) {
  async function find(tenantId: string) {
    const limits = {
      ...{ events: SAMPLED_EVENTS, names: MAX_NAMES + 1 },
      ...{ values: TOP_VALUES, characters: VALUE_CHARACTERS },
    };
    const { rows, events, from, to } = await selectSample(sql, tenantId, limits);
    const items = rows.slice(0, MAX_NAMES).map((row) => ({ ...row, share: row.seen / events }));
    return {
      sampled: { events, limit: SAMPLED_EVENTS, from, to },
      items,
      truncated: rows.length > MAX_NAMES,
    };
  }

  return {
    async findProperties(ctx: RequestContext) {
      const { tenantId } = ctx;
      const question = {
        ...{ tenantId, scope: "analytics" as const, name: "event-properties" },
        ...{ tags: [], ttlSeconds: FRESH_SECONDS },
      };
      const [{ value }, choice] = await Promise.all([
        cache.getOrCompute(question, () => readGuard.run(() => find(tenantId), ctx)),
        readGuard.run(() => readPropertyChoice(sql, tenantId), ctx),
      ]);
      const chosen = new Set(choice?.properties);
      return { ...value, items: value.items.map((item) => ({ ...item, chosen: chosen.has(item.name) })) };
    },
  };
}
