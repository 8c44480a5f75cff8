import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import type { AnswerQuestion } from "./answers.ts";
import { type MetricsQuestion, planMetrics } from "./planner.ts";
import { byOwnName, type Range, resolveRange } from "./range.ts";
import { type MetricsRow, selectMetrics } from "./repository.ts";
import type { RangeQuery } from "./schema.ts";

/** What every answer of this feature is made with. */
export interface Desk {
  sql: Sql;
  answer: AnswerQuestion;
  tenantZone(ctx: RequestContext): Promise<string>;
  /** The days asked for, in `timeZone`, else in the tenant's. Throws `invalid_input`. */
  rangeOf(ctx: RequestContext, query: RangeQuery, timeZone?: string): Promise<Range>;
  /**
   * Plans a question now, so that a bad one is refused before anything is read, and returns how to run it. Throws
   * `invalid_input`.
   */
  prepare(ctx: RequestContext, question: MetricsQuestion): () => Promise<MetricsRow[]>;
}

export function createDesk(sql: Sql, answer: AnswerQuestion, readTenantSettings: ReadTenantSettings): Desk {
  const tenantZone = async (ctx: RequestContext) => (await readTenantSettings(ctx.tenantId)).timeZone;
  return {
    sql,
    answer,
    tenantZone,
    rangeOf: async (ctx, query, timeZone) => {
      const ownZone = await tenantZone(ctx);
      return byOwnName({ ...resolveRange(query, timeZone ?? ownZone, Date.now()), ownZone });
    },
    prepare: (ctx, question) => {
      const plan = planMetrics(question);
      return () => selectMetrics(sql, ctx.tenantId, plan);
    },
  };
}

export const skips = (query: { skipCache?: boolean }) => query.skipCache === true;
