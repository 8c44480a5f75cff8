import type { EventWriter, ParsedEvent } from "../events/index.ts";

/**
 * A batch is one statement and one ledger row. Measured on two cores that Postgres shares: 48 k
 * rows/s with one batch in flight, 63 k with two; batches of 1000 made 55 k, of 5000 made 60 k.
 */
const BATCH_ROWS = 2_000;
const MAX_IN_FLIGHT = 2;

export interface LoadTotals {
  /** Rows given to the loader, and what became of those that are committed. */
  rows: number;
  stored: number;
  duplicates: number;
  rejected: number;
}

export interface BulkLoader {
  readonly totals: LoadTotals;
  /**
   * Takes an event, or null for a row that was refused. Synchronous; call `flush` when it answers
   * true.
   */
  add(event: ParsedEvent | null): boolean;
  /**
   * Starts to write what was added, and resolves when there is room for another batch. Throws the
   * error of an earlier batch.
   */
  flush(): Promise<void>;
  /** Writes the rest; resolves when nothing is in flight any more. Throws the first failure. */
  finish(): Promise<void>;
}

/**
 * Writes events of one tenant in batches through the ingest path. Their message ids are remembered
 * for ever.
 */
export function createBulkLoader(writer: EventWriter, tenantId: string): BulkLoader {
  const totals: LoadTotals = { rows: 0, stored: 0, duplicates: 0, rejected: 0 };
  let events: ParsedEvent[] = [];
  let rejected = 0;
  const inFlight: Promise<void>[] = [];

  async function write(batch: { events: ParsedEvent[]; rejected: number }): Promise<void> {
    const received = batch.events.length + batch.rejected;
    const outcome = await writer.writeBulk(
      { tenantId, receivedAtMs: Date.now(), received, ...batch },
      { keepKeys: true },
    );
    totals.stored += outcome.inserted;
    totals.duplicates += outcome.duplicates;
    totals.rejected += batch.rejected;
  }

  async function flush(): Promise<void> {
    const batch = { events, rejected };
    events = [];
    rejected = 0;
    if (batch.events.length + batch.rejected === 0) return;
    while (inFlight.length >= MAX_IN_FLIGHT) await inFlight.shift();
    const written = write(batch);
    // The failure goes to the caller that awaits it. Until then it must not count as unhandled.
    written.catch(() => {});
    inFlight.push(written);
  }

  return {
    totals,
    add(event) {
      totals.rows += 1;
      if (event) events.push(event);
      else rejected += 1;
      return events.length + rejected >= BATCH_ROWS;
    },
    flush,
    async finish() {
      const [flushed] = await Promise.allSettled([flush()]);
      const written = await Promise.allSettled(inFlight.splice(0));
      const failed = [flushed, ...written].find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    },
  };
}
