import { addDays, type Day, monthsBetween, nextMonth, toDay } from "../core/days.ts";
import type { Sql } from "./client.ts";
import { sqlState } from "./failures.ts";

/**
 * `events` is partitioned by UTC time of `ts`: a month each in this year and the last one, a year
 * each before. Each partition costs every statement that has no bounds on time, so there must not
 * be hundreds. There is no default partition: attaching a month would have to scan and lock it.
 * Instead ingest makes a missing partition before it inserts (EventPartitions).
 */
const MONTHS_AHEAD = 3;
const YEARS_BY_MONTH = 2;
const DUPLICATE_TABLE = "42P07";
/**
 * Another process attached a partition that overlaps this one: by another year's rule, or around a
 * part of it.
 */
const OVERLAP = "42P17";
const MAX_TRIES = 5;

/** First days of months; `until` is not part of it. */
interface Span {
  from: Day;
  until: Day;
}

/**
 * Makes the partitions that hold these days, unless they exist. Safe from any number of processes
 * at once.
 */
export async function ensurePartitions(sql: Sql, days: readonly Day[], nowMs = Date.now()): Promise<void> {
  let known = await selectPartitions(sql);
  for (const day of days) {
    for (let tries = 0; !known.some(({ from, until }) => from <= day && day < until); tries += 1) {
      if (tries === MAX_TRIES) throw new Error(`no partition of events could be made for ${day}`);
      await attachPartition(sql, gapAround(day, known, nowMs));
      known = await selectPartitions(sql);
    }
  }
}

/** Partitions of this month and the next ones; also the month before, for late events. */
export async function ensurePartitionsAhead(sql: Sql, nowMs: number): Promise<void> {
  const today = toDay(nowMs);
  const months = monthsBetween(addDays(today, -31), addDays(today, MONTHS_AHEAD * 31));
  await ensurePartitions(sql, months, nowMs);
}

async function selectPartitions(sql: Sql): Promise<Span[]> {
  return sql<Span[]>`
    select (split_part(bound, '''', 2)::timestamptz at time zone 'UTC')::date::text as from,
      (split_part(bound, '''', 4)::timestamptz at time zone 'UTC')::date::text as until
    from pg_inherits join pg_class on pg_class.oid = inhrelid
    cross join lateral pg_get_expr(relpartbound, pg_class.oid) as bound
    where inhparent = 'events'::regclass and bound like 'FOR VALUES FROM (''%'') TO (''%'')'`;
}

/**
 * The month or the year of a day, less what other partitions hold of it: months from when that year
 * was current.
 */
function gapAround(day: Day, known: readonly Span[], nowMs: number): Span {
  const year = Number(day.slice(0, 4));
  const byMonth = year > Number(toDay(nowMs).slice(0, 4)) - YEARS_BY_MONTH;
  const month = `${day.slice(0, 7)}-01`;
  let [from, until] = byMonth ? [month, nextMonth(month)] : [`${year}-01-01`, `${year + 1}-01-01`];
  for (const other of known) {
    if (other.until <= day && other.until > from) from = other.until;
    if (other.from > day && other.from < until) until = other.from;
  }
  return { from, until };
}

function nameOf({ from, until }: Span): string {
  const month = (day: Day) => day.slice(0, 7).replace("-", "_");
  if (until === nextMonth(from)) return `events_${month(from)}`;
  const wholeYear = from.endsWith("-01-01") && until === `${Number(from.slice(0, 4)) + 1}-01-01`;
  return wholeYear ? `events_${from.slice(0, 4)}` : `events_${month(from)}_until_${month(until)}`;
}

async function attachPartition(sql: Sql, span: Span): Promise<void> {
  const name = nameOf(span);
  // LIKE and ATTACH take SHARE UPDATE EXCLUSIVE on `events`, so inserts go on; PARTITION OF would
  // stop them. One DO block is one transaction, so a crash leaves no half-made partition.
  const statement = `do $$ begin
    perform pg_advisory_xact_lock(7370002);
    if to_regclass('${name}') is null then
      create table ${name} (like events including defaults);
      alter table events attach partition ${name}
        for values from ('${span.from}T00:00:00Z') to ('${span.until}T00:00:00Z');
    end if;
  end $$`;
  try {
    await sql.unsafe(statement);
  } catch (error) {
    if (![DUPLICATE_TABLE, OVERLAP].includes(sqlState(error) ?? "")) throw error;
  }
}

/**
 * Remembers which months have a partition, so that ingest asks Postgres once a month and process.
 */
export class EventPartitions {
  readonly #known = new Map<Day, Promise<void>>();
  /** The month that was asked for last: almost every event is in it. */
  #lastStartMs = 0;
  #lastEndMs = 0;

  constructor(private readonly sql: Sql) {}

  /**
   * Makes the missing partitions of events at these times (ms). Resolves at once when all are
   * known.
   */
  async ensure(timesMs: Iterable<number>): Promise<void> {
    const pending = new Set<Promise<void>>();
    const missing = new Set<Day>();
    for (const timeMs of timesMs) {
      if (timeMs >= this.#lastStartMs && timeMs < this.#lastEndMs) continue;
      const month = `${toDay(timeMs).slice(0, 7)}-01`;
      const known = this.#known.get(month);
      if (known) pending.add(known);
      else missing.add(month);
      this.#lastStartMs = Date.parse(month);
      this.#lastEndMs = Date.parse(nextMonth(month));
    }
    if (missing.size > 0) pending.add(this.#make(missing));
    if (pending.size > 0) await Promise.all(pending);
  }

  /**
   * Forgets everything: called when an insert found no partition, because retention dropped one.
   */
  forget(): void {
    this.#known.clear();
    this.#lastEndMs = 0;
  }

  #make(months: ReadonlySet<Day>): Promise<void> {
    const made = ensurePartitions(this.sql, [...months]).catch((error) => {
      this.forget();
      throw error;
    });
    for (const month of months) this.#known.set(month, made);
    return made;
  }
}
