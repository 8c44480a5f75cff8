import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { isAway } from "../../db/failures.ts";
import type { ReadTenantSettings, TimeZones } from "../identity/index.ts";
import type { AnswerQuestion } from "./answers.ts";
import { type MetricsQuestion, planMetrics } from "./planner.ts";
import { byOwnName, type Range, resolveRange } from "./range.ts";
import { type MetricsRow, selectMetrics } from "./repository.ts";
import type { RangeQuery } from "./schema.ts";

/** What every answer of this feature is made with. */
export interface Desk {
  sql: Sql;
  answer: AnswerQuestion;
  /** Throws `invalid_input` for one in which nothing can be counted. */
  tenantZone(ctx: RequestContext): Promise<string>;
  /**
   * The days asked for, in `timeZone`, else in the tenant's zone. Throws `invalid_input`, also for
   * a zone that can't be used.
   */
  rangeOf(ctx: RequestContext, query: RangeQuery, timeZone?: string): Promise<Range>;
  /**
   * Plans a question, and returns how to run it. So a bad one is refused before anything is read.
   * Throws `invalid_input`.
   */
  prepare(ctx: RequestContext, question: MetricsQuestion): () => Promise<MetricsRow[]>;
}

export interface DeskDeps {
  sql: Sql;
  readTenantSettings: ReadTenantSettings;
  timeZones: TimeZones;
}

export function createDesk({ sql, readTenantSettings, timeZones }: DeskDeps, answer: AnswerQuestion): Desk {
  const tenantZone = async (ctx: RequestContext) => {
    const { timeZone } = await readTenantSettings(ctx.tenantId);
    const fault = await unlessAway(timeZones.findFault(timeZone));
    // A zone with uncertain rules has rollups all the same, by the rules of Postgres.
    if (fault?.code !== "unknown_time_zone") return timeZone;
    const { code, message } = fault;
    throw new AppError(
      "invalid_input",
      `The tenant's time zone can't be used, so its events wait to be counted: ${message} An admin can change it (PATCH /tenants/current).`,
      { errors: [{ path: "timeZone", code, message }] },
    );
  };
  return {
    sql,
    answer,
    tenantZone,
    rangeOf: async (ctx, query, timeZone) => {
      const ownZone = await tenantZone(ctx);
      if (timeZone !== undefined && timeZone !== ownZone) await unlessAway(timeZones.require(timeZone));
      return byOwnName({ ...resolveRange(query, timeZone ?? ownZone, Date.now()), ownZone });
    },
    prepare: (ctx, question) => {
      const plan = planMetrics(question);
      return () => selectMetrics(sql, ctx.tenantId, plan);
    },
  };
}

/** Only Postgres can say whether a zone can be used. While it is away, a cached answer will do. */
async function unlessAway<T>(asked: Promise<T> | T): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (isAway(error)) return null;
    throw error;
  }
}

export const skips = (query: { skipCache?: boolean }) => query.skipCache === true;
