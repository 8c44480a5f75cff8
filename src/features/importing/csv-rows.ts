import { type CsvError, type Info, parse } from "csv-parse";
import { feedCsv, MAX_RECORD_BYTES, MISPLACED_QUOTE, wrongWidth } from "../../core/csv.ts";
import { AppError } from "../../core/errors.ts";
import type { Row, RowSource } from "./rows.ts";
import { badFile, readTextBytes } from "./source.ts";

/**
 * A CSV file (RFC 4180; line ends LF, CRLF or CR; a BOM is skipped) whose first row is the header.
 * A wrong number of values or a misplaced quote is a problem of its row. A quote that never closes
 * is a problem of the file.
 */
export async function readCsv(path: string, delimiter = ","): Promise<RowSource> {
  const batches = parseCsv(path, delimiter);
  const first = await batches.next();
  const [head, ...rest] = first.value ?? [];
  if (!head) throw badFile(path, "is empty");
  if (head.problem) throw badFile(path, `has a header that can't be read: it ${head.problem.message}`);
  const columns = (head.cells as string[]).map((name) => name.trim());
  const repeated = columns.find((name, index) => name !== "" && columns.indexOf(name) !== index);
  if (repeated !== undefined) throw badFile(path, `names the column "${repeated}" twice in its header`);
  return { columns, rows: withWidth(rest, batches, columns.length) };
}

async function* withWidth(first: Row[], rest: AsyncIterable<Row[]>, width: number): AsyncGenerator<Row[]> {
  yield first.map((row) => checkWidth(row, width));
  for await (const rows of rest) yield rows.map((row) => checkWidth(row, width));
}

function checkWidth(row: Row, width: number): Row {
  const found = (row.cells as string[]).length;
  if (row.problem || found === width) return row;
  const message = wrongWidth(found, width);
  return { ...row, problem: { path: "", code: "wrong_width", message } };
}

async function* parseCsv(path: string, delimiter: string): AsyncGenerator<Row[]> {
  let rows: Row[] = [];
  const parser = parse({
    delimiter,
    bom: true,
    record_delimiter: ["\r\n", "\n", "\r"],
    skip_empty_lines: true,
    relax_column_count: true,
    skip_records_with_error: true,
    max_record_size: MAX_RECORD_BYTES,
    on_record(cells: string[], { lines }: Info) {
      rows.push(toRow(cells, lines));
      // Nothing passes through the stream's queue: a row costs a push and no event.
      return null;
    },
    on_skip: (error) => {
      if (error) rows.push(toBrokenRow(path, error));
      return undefined;
    },
  });
  parser.on("error", () => {});
  try {
    for await (const chunk of readTextBytes(path)) {
      await feedCsv(parser, chunk, false);
      if (rows.length === 0) continue;
      yield rows;
      rows = [];
    }
    await feedCsv(parser, Buffer.alloc(0), true);
  } catch (error) {
    // What was read before the file turned bad is as good as any.
    if (rows.length > 0) yield rows;
    throw error;
  } finally {
    parser.destroy();
  }
  if (rows.length > 0) yield rows;
}

function toRow(cells: string[], endLine: number): Row {
  let line = endLine;
  for (const cell of cells) if (cell.includes("\n")) line -= cell.split("\n").length - 1;
  // NUL can't be in the file, so different rows never join to the same text.
  return { line, cells, identity: cells.join("\0") };
}

/** A row that csv-parse could not read. Throws when the file ends in the middle of a value. */
function toBrokenRow(path: string, error: CsvError): Row {
  const line = Number(error.lines);
  if (error.code === "CSV_QUOTE_NOT_CLOSED" || error.code === "CSV_MAX_RECORD_SIZE")
    throw badFile(path, `has a quote that is never closed, in the row that ends at line ${line}`);
  if (error.code !== "CSV_INVALID_CLOSING_QUOTE" && error.code !== "INVALID_OPENING_QUOTE")
    throw new AppError("invalid_input", error.message, { cause: error });
  return {
    line,
    cells: [],
    identity: "",
    problem: { path: "", code: "misplaced_quote", message: MISPLACED_QUOTE },
  };
}
