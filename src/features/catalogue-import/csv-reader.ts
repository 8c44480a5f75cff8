import { type CsvError, type Info, type Parser, parse } from "csv-parse";
import { feedCsv, MAX_RECORD_BYTES } from "../../core/csv.ts";

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export interface CsvRecord {
  /** Of its first character; the first line of the file is 1. */
  line: number;
  /** Null for one that can't be read. */
  cells: string[] | null;
  /** Where reading continues after it: the byte, and its line. */
  end: number;
  endLine: number;
}

/** The file can't be read beyond a place. The message is a sentence. */
export class UnreadableCsv extends Error {}

export interface CsvReader {
  /**
   * The records that end in the bytes so far. Throws UnreadableCsv after it has returned the
   * readable ones.
   */
  push(chunk: Buffer): Promise<CsvRecord[]>;
  /** The rest, at the end of the file. A second call returns nothing more. */
  finish(): Promise<CsvRecord[]>;
}

/**
 * Records of RFC 4180 from byte `position` of a file, which is on line `line`. Reading can stop
 * after any record and go on there in another process. csv-parse does the parsing. After a
 * misplaced quote its own skipping would go on to the next quote, so a new parser starts on the
 * next line.
 */
export function createCsvReader(from: { position: number; line: number }): CsvReader {
  let { position, line } = from;
  /** The bytes from `position` on that the parser has been given. */
  let unread: Buffer = Buffer.alloc(0);
  let parsing = startParsing(position);
  let failure: UnreadableCsv | null = null;
  let finished = false;

  /** Moves on to byte `end`, and makes the bytes before it a record. */
  function take(cells: string[] | null, end: number): CsvRecord {
    const bytes = unread.subarray(0, end - position);
    const blank = blankBytes(bytes);
    const startLine = line + countNewlines(bytes.subarray(0, blank));
    if (bytes.length - blank > MAX_RECORD_BYTES) throw tooLong(startLine);
    line = startLine + countNewlines(bytes.subarray(blank));
    unread = unread.subarray(end - position);
    position = end;
    return { line: startLine, cells, end, endLine: line };
  }

  /** Blank lines belong to no record, so they don't count for the length of one. */
  function passBlankLines(): void {
    const blank = blankBytes(unread);
    line += countNewlines(unread.subarray(0, blank));
    unread = unread.subarray(blank);
    position += blank;
  }

  /** Gives up the record that begins at `position`; reading continues on the next line. */
  function skipLine(isLast: boolean): CsvRecord | null {
    const newline = unread.indexOf(NEWLINE, blankBytes(unread));
    if (newline === -1 && !isLast) return null;
    return take(null, newline === -1 ? position + unread.length : position + newline + 1);
  }

  async function parseOn(chunk: Buffer, isLast: boolean): Promise<CsvRecord[]> {
    if (failure) throw failure;
    if (finished) return [];
    finished = isLast;
    unread = unread.length > 0 ? Buffer.concat([unread, chunk]) : chunk;
    const records: CsvRecord[] = [];
    let given = parsing.broken ? Buffer.alloc(0) : chunk;
    try {
      for (;;) {
        if (!parsing.broken) await feedCsv(parsing.parser, given, isLast).catch(noted);
        for (const { cells, end } of parsing.found.splice(0)) records.push(take(cells, end));
        passBlankLines();
        if (unread.length > MAX_RECORD_BYTES && !parsing.broken) throw tooLong(line);
        if (!parsing.broken) return records;
        if (parsing.broken.code === "CSV_QUOTE_NOT_CLOSED")
          throw new UnreadableCsv(
            `A quote is opened and never closed in the record that begins on line ${line}.`,
          );
        const skipped = skipLine(isLast);
        if (skipped) records.push(skipped);
        else if (unread.length > MAX_RECORD_BYTES) throw tooLong(line);
        else return records;
        parsing = startParsing(position);
        given = unread;
      }
    } catch (error) {
      if (!(error instanceof UnreadableCsv) || records.length === 0) throw error;
      failure = error;
      return records;
    }
  }

  return {
    push: (chunk) => parseOn(chunk, false),
    finish: () => parseOn(Buffer.alloc(0), true),
  };
}

interface Parsing {
  parser: Parser;
  /** Complete records since the last look. */
  found: { cells: string[]; end: number }[];
  broken: CsvError | null;
}

function startParsing(position: number): Parsing {
  const found: Parsing["found"] = [];
  const parser = parse({
    record_delimiter: ["\r\n", "\n"],
    skip_empty_lines: true,
    relax_column_count: true,
    on_record(cells: string[], { bytes }: Info) {
      found.push({ cells, end: position + bytes });
      // Nothing passes through the stream's queue: a record costs a push and no event.
      return null;
    },
  });
  const parsing: Parsing = { parser, found, broken: null };
  parser.on("error", (error) => {
    parsing.broken = error as CsvError;
  });
  return parsing;
}

/** The parser's error is in `broken` already. */
function noted(): void {}

/** Of the blank lines at the start. A CR alone ends no line: it begins a value. */
function blankBytes(bytes: Buffer): number {
  let blank = 0;
  for (;;) {
    if (bytes[blank] === NEWLINE) blank += 1;
    else if (bytes[blank] === CARRIAGE_RETURN && bytes[blank + 1] === NEWLINE) blank += 2;
    else return blank;
  }
}

function countNewlines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) lines += 1;
  return lines;
}

function tooLong(line: number): UnreadableCsv {
  const limit = `${MAX_RECORD_BYTES / 1024 / 1024} MB`;
  return new UnreadableCsv(
    `The record that begins on line ${line} is longer than ${limit}; a quote that is never closed looks like that, too.`,
  );
}
