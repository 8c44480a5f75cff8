import { AppError } from "../../core/errors.ts";
import { newId } from "../../core/ids.ts";
import { createCollector } from "../../core/memory.ts";
import type { RequestContext } from "../../core/principal.ts";
import { createSemaphore } from "../../core/semaphore.ts";
import type { Sql } from "../../db/client.ts";
import type { Log } from "../../telemetry/log.ts";
import { type Column, parseHeader } from "./columns.ts";
import { createCsvReader, UnreadableCsv } from "./csv-reader.ts";
import {
  countUnfinished,
  deleteReceiving,
  insertImport,
  insertPiece,
  PIECE_BYTES,
  queueImport,
} from "./imports-repository.ts";
import { createTextCheck } from "./text-check.ts";

/** Ten names fit many times. Anything longer is no header, and is not waited for. */
const MAX_HEADER_BYTES = 64 * 1024;
/** Files of a tenant that may wait in Postgres at a time. */
const MAX_UNFINISHED = 20;
/**
 * An upload writes one piece at a time, and two pieces are written at once in all. Ingest has the
 * pool's other connections.
 */
const WRITERS = 2;
const MAX_WAITING_WRITERS = 200;
/**
 * An upload that has written no piece for so long was broken off, and is removed. Stalled clients
 * are disconnected sooner.
 */
const KEEP_MS = 10 * 60_000;
const COLLECT_EVERY_BYTES = 8 * 1024 * 1024;
const BOM = Buffer.from("\ufeff");

export type ReceiveImport = (
  ctx: RequestContext,
  file: AsyncIterable<Uint8Array>,
) => Promise<{ importId: string }>;

/**
 * Stores a file in pieces, and resolves when all of it is committed and a worker may start. The
 * client is read only as fast as Postgres writes. A failure before leaves nothing. Throws
 * `invalid_input` for a header that can't be used and for a file without rows, `malformed_body` for
 * what is not UTF-8 text.
 */
export function createReceiveImport(sql: Sql, log: Log): ReceiveImport {
  const writers = createSemaphore(WRITERS, MAX_WAITING_WRITERS);

  async function spool(tenantId: string, importId: string, file: AsyncIterable<Uint8Array>): Promise<void> {
    const head = createHeadReader();
    const check = createTextCheck();
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    const collect = createCollector(COLLECT_EVERY_BYTES);
    let [start, filled] = [0, 0];
    const flush = async () => {
      const row = { importId, start, data: piece.subarray(0, filled), keepMs: KEEP_MS };
      if (!(await writers.run(() => insertPiece(sql, tenantId, row))))
        throw new AppError("unavailable", "The upload took too long and was given up.");
      start += filled;
      filled = 0;
      collect(row.data.length);
    };
    for await (const chunk of file) {
      check.add(chunk);
      await head.add(chunk);
      for (let at = 0; at < chunk.length; ) {
        const copied = Math.min(chunk.length - at, PIECE_BYTES - filled);
        piece.set(chunk.subarray(at, at + copied), filled);
        at += copied;
        filled += copied;
        if (filled === PIECE_BYTES) await flush();
      }
    }
    check.end();
    const found = await head.end();
    if (filled > 0) await flush();
    if (!(await queueImport(sql, tenantId, { id: importId, ...found })))
      throw new AppError("unavailable", "The upload took too long and was given up.");
  }

  return async ({ tenantId, sellerId }, file) => {
    if ((await countUnfinished(sql, tenantId)) >= MAX_UNFINISHED)
      throw new AppError("conflict", `${MAX_UNFINISHED} imports wait already; let some of them finish.`);
    const importId = newId();
    await insertImport(sql, tenantId, { id: importId, sellerId, keepMs: KEEP_MS });
    try {
      await spool(tenantId, importId, file);
      return { importId };
    } catch (error) {
      await deleteReceiving(sql, tenantId, importId).catch((failure) =>
        log.warn({ importId, error: String(failure) }, "a broken upload is left to housekeeping"),
      );
      throw error;
    }
  };
}

interface Head {
  columns: Column[];
  position: number;
  line: number;
}

/**
 * Reads the header as soon as it is there, so that a wrong file is refused after its first bytes.
 * Also checks for a row.
 */
function createHeadReader() {
  let head: Head | null = null;
  let hasRow = false;
  let bytes: Buffer = Buffer.alloc(0);

  async function read(isLast: boolean): Promise<void> {
    const skipped = bytes.subarray(0, BOM.length).equals(BOM) ? BOM.length : 0;
    const reader = createCsvReader({ position: skipped, line: 1 });
    const text = bytes.subarray(skipped, skipped + MAX_HEADER_BYTES);
    let [first] = await reader.push(text).catch(refuseUnreadable);
    if (!first && isLast) [first] = await reader.finish().catch(refuseUnreadable);
    if (!first) {
      if (text.length === MAX_HEADER_BYTES) throw noHeader(`is longer than ${MAX_HEADER_BYTES} bytes`);
      return;
    }
    if (first.cells === null) throw noHeader("has a misplaced quote");
    head = { columns: parseHeader(first.cells), position: first.end, line: first.endLine };
    hasRow = holdsText(bytes.subarray(first.end));
    bytes = Buffer.alloc(0);
  }

  return {
    async add(chunk: Uint8Array): Promise<void> {
      if (head !== null) {
        hasRow ||= holdsText(chunk);
        return;
      }
      const known = bytes.length;
      bytes = Buffer.concat([bytes, chunk]);
      // A client that sends byte by byte does not make us parse as often.
      if (chunk.includes(NEWLINE) || Math.floor(bytes.length / READ_STEP) > Math.floor(known / READ_STEP))
        await read(false);
    },
    async end(): Promise<Head> {
      if (head === null && holdsText(bytes)) await read(true);
      if (head === null) throw new AppError("invalid_input", "The file is empty.");
      if (!hasRow) throw new AppError("invalid_input", "The file has a header and no rows.");
      return head;
    },
  };
}

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const READ_STEP = 8 * 1024;

function holdsText(bytes: Uint8Array): boolean {
  return bytes.some((byte) => byte !== NEWLINE && byte !== CARRIAGE_RETURN);
}

function noHeader(problem: string): AppError {
  return new AppError("invalid_input", `The header ${problem}.`);
}

function refuseUnreadable(error: unknown): never {
  if (error instanceof UnreadableCsv) throw noHeader("has a quote that is never closed");
  throw error;
}
