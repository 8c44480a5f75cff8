import { addDays, type Day, monthsBetween, nextMonth, toDay } from "../core/days.ts";
import type { Sql } from "./client.ts";
import { sqlState } from "./failures.ts";

/**
 * `events` is partitioned by UTC month of `ts`. There is no default partition: attaching a month would have to scan
 * and lock it; instead ingest makes a missing month before it inserts (EventPartitions), once a process and month.
 */
const MONTHS_AHEAD = 3;
const DUPLICATE_TABLE = "42P07";

/** Makes the partition of the month that holds `day`, unless it exists. Safe from any number of processes at once. */
export async function ensurePartition(sql: Sql, day: Day): Promise<void> {
  const from = `${day.slice(0, 7)}-01`;
  const name = `events_${from.slice(0, 7).replace("-", "_")}`;
  const attached = await sql`
    select from pg_inherits where inhparent = 'events'::regclass and inhrelid = to_regclass(${name})`;
  if (attached.length > 0) return;
  // LIKE + ATTACH takes SHARE UPDATE EXCLUSIVE on `events`, so inserts go on; PARTITION OF would stop them all.
  // One DO block is one transaction, so a crash leaves no half-made partition behind.
  const statement = `do $$ begin
    perform pg_advisory_xact_lock(7370002);
    if to_regclass('${name}') is null then
      create table ${name} (like events including defaults);
      alter table events attach partition ${name} for values from ('${from}T00:00:00Z') to ('${nextMonth(from)}T00:00:00Z');
    end if;
  end $$`;
  try {
    await sql.unsafe(statement);
  } catch (error) {
    if (sqlState(error) !== DUPLICATE_TABLE) throw error;
  }
}

/** Partitions of this month and the next ones; also the month before, for late events. */
export async function ensurePartitionsAhead(sql: Sql, nowMs: number): Promise<void> {
  const today = toDay(nowMs);
  for (const month of monthsBetween(addDays(today, -31), addDays(today, MONTHS_AHEAD * 31))) {
    await ensurePartition(sql, month);
  }
}

/** Remembers which months exist, so that the hot path asks Postgres once a month and process. */
export class EventPartitions {
  readonly #known = new Map<Day, Promise<void>>();
  /** The month that was looked at last: almost every event lies in it. */
  #lastStartMs = 0;
  #lastEndMs = 0;

  constructor(private readonly sql: Sql) {}

  /** Makes the missing months of events at these times (ms). Resolves at once when all are known. */
  async ensure(timesMs: Iterable<number>): Promise<void> {
    const pending: Promise<void>[] = [];
    for (const timeMs of timesMs) {
      if (timeMs >= this.#lastStartMs && timeMs < this.#lastEndMs) continue;
      const month = `${toDay(timeMs).slice(0, 7)}-01`;
      pending.push(this.#ensureMonth(month));
      this.#lastStartMs = Date.parse(month);
      this.#lastEndMs = Date.parse(nextMonth(month));
    }
    if (pending.length > 0) await Promise.all(pending);
  }

  /** Forgets everything: called when an insert found no partition, because retention dropped one. */
  forget(): void {
    this.#known.clear();
    this.#lastEndMs = 0;
  }

  #ensureMonth(month: Day): Promise<void> {
    const known = this.#known.get(month);
    if (known) return known;
    const made = ensurePartition(this.sql, month).catch((error) => {
      this.forget();
      throw error;
    });
    this.#known.set(month, made);
    return made;
  }
}
