import type { Invalidator } from "../../cache/invalidator.ts";
import { PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
import { newId } from "../../core/ids.ts";
import { createCollector } from "../../core/memory.ts";
import type { Database, Sql } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Log } from "../../telemetry/log.ts";
import { type CsvRecord, createCsvReader, UnreadableCsv } from "./csv-reader.ts";
import {
  claimImport,
  finishImport,
  type HeldImport,
  releaseImport,
  selectPiece,
} from "./imports-repository.ts";
import { createRowParser, type ParsedRow } from "./parse-row.ts";
import { analyzeProducts } from "./products-repository.ts";
import { LostImport, storeRows } from "./store-rows.ts";

/**
 * Rows of a transaction, and about how many bytes: indexing long descriptions takes most of the
 * time.
 */
export const BATCH_ROWS = 1_000;
const BATCH_BYTES = 1024 * 1024;
/** A worker that has said nothing for so long is dead; each batch says something. */
const HOLD_MS = 15_000;
/** A byte of the file becomes some ten in rows, plans and parameters. */
const COLLECT_EVERY_BYTES = 2 * 1024 * 1024;
/** After so many workers in a row without progress, something in the import kills them. */
const MAX_ATTEMPTS = 20;

export interface ImportRunnerDeps {
  db: Database;
  invalidator: Invalidator;
  log: Log;
}

export interface RunOptions {
  holder: string;
  /** Asked after each batch: true gives the import back for another worker. */
  shouldStop: () => boolean;
}

export type RunNextImport = (options: RunOptions) => Promise<number | null>;

/**
 * Runs the next waiting import of any tenant to its end. Returns how many rows that were; null when
 * none waits. A batch commits with the place in the file that it reached, so after a crash another
 * worker begins exactly there. Throws when Postgres is away; the import is then taken up again.
 */
export function createRunNextImport({ db, invalidator, log }: ImportRunnerDeps): RunNextImport {
  const invalidateProducts = (tenantId: string, ids: readonly string[]) =>
    invalidator.invalidateTags(tenantId, [PRODUCTS_TAG, ...ids.map(productTag)]);

  async function refreshStatistics(): Promise<void> {
    await analyzeProducts(db.write).catch((error) =>
      log.warn({ error: String(error) }, "products were not analyzed, the import may be slow"),
    );
  }

  async function workOff(held: HeldImport, { holder, shouldStop }: RunOptions): Promise<number> {
    const batches = readBatches(db, held);
    let { position, failed } = held;
    let maxRows = BATCH_ROWS;
    let rows = 0;
    let next = settle(batches.next());
    try {
      for (;;) {
        const read = await next;
        if ("failure" in read) return await end(held, holder, { rows, failure: read.failure });
        if (read.value.done) return await end(held, holder, { rows, failure: null });
        const batch = read.value.value;
        // The next batch is parsed while Postgres writes this one.
        next = settle(batches.next());
        const progress = { holder, position, failed, maxRows, holdMs: HOLD_MS };
        const stored = await storeRows(db, held, batch, progress, (ids) =>
          invalidateProducts(held.tenantId, ids),
        );
        ({ position, failed, maxRows } = stored);
        // Once, and only where more is to come.
        if (rows === 0 && position < held.bytes) await refreshStatistics();
        rows += batch.length;
        if (shouldStop()) {
          await releaseImport(db.write, held, { holder, counts: true });
          return rows;
        }
      }
    } finally {
      await next;
      await batches.return(undefined);
    }
  }

  async function end(
    held: HeldImport,
    holder: string,
    { rows, failure }: { rows: number; failure: unknown },
  ): Promise<number> {
    if (failure !== null && !(failure instanceof UnreadableCsv)) throw failure;
    const error = failure && `${failure.message} The rows before it were imported, the rest was not.`;
    await finish(held, holder, error);
    return rows;
  }

  async function finish(held: HeldImport, holder: string, error: string | null): Promise<void> {
    const status = error === null ? "succeeded" : "failed";
    await finishImport(db.write, held, { holder, status, error, eventId: newId() });
    log.info({ tenantId: held.tenantId, importId: held.id, status }, "import finished");
  }

  return async (options) => {
    const held = await claimImport(db.write, options.holder, HOLD_MS);
    if (held === null) return null;
    // Of a worker that died between a batch's commit and the deletion of its tags.
    if (held.changedIds !== null) await invalidateProducts(held.tenantId, held.changedIds);
    if (held.attempts > MAX_ATTEMPTS) {
      await finish(
        held,
        options.holder,
        "The import was given up: every worker that tried to go on with it failed.",
      );
      return 0;
    }
    try {
      return await workOff(held, options);
    } catch (error) {
      // Another worker has the import by now. Nothing that this one did is lost or doubled.
      if (error instanceof LostImport) return 0;
      // The holder of a product's lock will release it, so the import waits for as long as that
      // takes.
      const counts = classifyFailure(error) !== "locked";
      await releaseImport(db.write, held, { holder: options.holder, counts }).catch(() => {});
      throw error;
    }
  };
}

type Settled<T> = { value: T } | { failure: unknown };

function settle<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then(
    (value) => ({ value }),
    (failure) => ({ failure }),
  );
}

/**
 * The rows from the import's place on, parsed, a batch at a time. Throws UnreadableCsv after the
 * last readable row.
 */
async function* readBatches(
  { read }: Database,
  held: HeldImport,
): AsyncGenerator<ParsedRow[], void, undefined> {
  const parseRow = createRowParser(held.columns);
  let waiting: ParsedRow[] = [];
  let start = held.position;
  try {
    for await (const records of readRecords(read, held)) {
      for (const record of records) {
        waiting.push(parseRow(record));
        if (waiting.length < BATCH_ROWS && record.end - start < BATCH_BYTES) continue;
        yield waiting;
        waiting = [];
        start = record.end;
      }
    }
  } catch (error) {
    if (waiting.length > 0) yield waiting;
    throw error;
  }
  if (waiting.length > 0) yield waiting;
}

async function* readRecords(read: Sql, held: HeldImport): AsyncGenerator<CsvRecord[], void, undefined> {
  const reader = createCsvReader(held);
  const collect = createCollector(COLLECT_EVERY_BYTES);
  for (let position = held.position; position < held.bytes; ) {
    const piece = await selectPiece(read, held.tenantId, held.id, position);
    if (!piece) throw new LostImport();
    yield await reader.push(piece.data.subarray(position - piece.start));
    position = piece.start + piece.data.length;
    collect(piece.data.length);
  }
  yield await reader.finish();
  // What could be read came first; this throws when something could not.
  yield await reader.finish();
}
