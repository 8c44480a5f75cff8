import type { Row, RowSource } from "./rows.ts";
import { readTextBytes } from "./source.ts";

/** Far above the largest event; a longer line is skipped to its end and never held in memory. */
const MAX_LINE_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;
const BOM = "\ufeff";

/** A file with a JSON value a line. Blank lines count for nothing. */
export function readNdjson(path: string): RowSource {
  return { columns: null, rows: readRows(path) };
}

async function* readRows(path: string): AsyncGenerator<Row[]> {
  let line = 0;
  let pending: Buffer[] = [];
  let pendingBytes = 0;

  const endLine = (rows: Row[]) => {
    line += 1;
    const row =
      pendingBytes > MAX_LINE_BYTES ? tooLong(line) : parseLine(Buffer.concat(pending).toString(), line);
    if (row) rows.push(row);
    pending = [];
    pendingBytes = 0;
  };
  const keep = (part: Buffer) => {
    pendingBytes += part.length;
    if (pendingBytes <= MAX_LINE_BYTES) pending.push(part);
    else pending = [];
  };

  for await (const chunk of readTextBytes(path)) {
    const rows: Row[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      keep(chunk.subarray(start, end));
      endLine(rows);
      start = end + 1;
    }
    keep(chunk.subarray(start));
    if (rows.length > 0) yield rows;
  }
  const last: Row[] = [];
  endLine(last);
  if (last.length > 0) yield last;
}

function parseLine(raw: string, line: number): Row | null {
  const text = (line === 1 && raw.startsWith(BOM) ? raw.slice(1) : raw).trim();
  if (text === "") return null;
  try {
    return { line, cells: JSON.parse(text), identity: text };
  } catch {
    const problem = { path: "", code: "malformed_json", message: "the line is not valid JSON" };
    return { line, cells: null, identity: text, problem };
  }
}

function tooLong(line: number): Row {
  const message = `the line is longer than ${MAX_LINE_BYTES} bytes`;
  return { line, cells: null, identity: "", problem: { path: "", code: "too_large", message } };
}
