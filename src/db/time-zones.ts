import { clockOf } from "../core/time-zone-clock.ts";
import type { Sql } from "./client.ts";
import { sqlState } from "./failures.ts";

/** Why a time zone can't be used here. */
export interface ZoneFault {
  /** Both codes are those of a field error. */
  code: "unknown_time_zone" | "uncertain_time_zone";
  /** A sentence for people, which names the zone. */
  message: string;
}

/** No event is older than 2000 (events/parse-event.ts), by any clock. */
const FROM_MS = Date.UTC(1999, 11, 30);
/**
 * Changes of rules are announced a year or less before, and clocks are compared again every ten
 * minutes.
 */
const YEARS_AHEAD = 2;
/**
 * SQLSTATE invalid_parameter_value: what `at time zone` answers to a name that it does not know.
 */
const UNKNOWN_TO_POSTGRES = "22023";

/**
 * Compares the clock of a zone in the runtime with that of this Postgres server, whose time zone
 * data may be of another year; null when they agree. It compares both sides of every change that
 * the runtime knows, and every fourth day. About 3 ms of Postgres. Throws RangeError for a zone
 * that the runtime does not know.
 */
export async function findZoneFault(sql: Sql, name: string, nowMs = Date.now()): Promise<ZoneFault | null> {
  const untilMs = Date.UTC(new Date(nowMs).getUTCFullYear() + YEARS_AHEAD, 0, 1);
  const runs = clockOf(name, FROM_MS, untilMs);
  try {
    const differsAt = await selectFirstDifference(sql, name, runs, untilMs);
    if (differsAt === null) return null;
    return {
      code: "uncertain_time_zone",
      message: `The clock of "${name}" is not certain: this server and its Postgres have different rules for it, first on ${differsAt.toISOString().slice(0, 10)}. Use another zone until the time zone data of both is up to date.`,
    };
  } catch (error) {
    if (sqlState(error) !== UNKNOWN_TO_POSTGRES) throw error;
    return {
      code: "unknown_time_zone",
      message: `"${name}" is a time zone that Postgres does not know. Use the zone's present name.`,
    };
  }
}

async function selectFirstDifference(
  sql: Sql,
  name: string,
  runs: ReturnType<typeof clockOf>,
  untilMs: number,
): Promise<Date | null> {
  const starts = `{${runs.map((run) => run.startMs / 1_000).join()}}`;
  const offsets = `{${runs.map((run) => run.offsetSeconds).join()}}`;
  const [first] = await sql<{ at: Date }[]>`
    with runs as (
      select to_timestamp(start) as begins, seconds * interval '1 second' as shift,
        lead(to_timestamp(start), 1, to_timestamp(${untilMs / 1_000}::float8)) over (order by start)
          - interval '1 second' as ends
      from unnest(${starts}::float8[], ${offsets}::int[]) as run(start, seconds)
    ), looks as (
      select generate_series(begins, ends, interval '4 days') as at, shift from runs
      union all select ends, shift from runs
    )
    select at from looks where (at at time zone ${name}) - (at at time zone 'UTC') <> shift order by at limit 1`;
  return first?.at ?? null;
}
