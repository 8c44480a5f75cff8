import type { FieldError } from "../../core/errors.ts";

/** One row of a file, before it means anything. */
export interface Row {
  /** 1 for the first line of the file; where the row begins. */
  line: number;
  /** A CSV row's cells in the order of the header, or the value of an NDJSON line. */
  cells: unknown;
  /** Equal for equal rows, whatever the file's quoting, line ends and compression. */
  identity: string;
  /** Set when the row could not even be read. */
  problem?: FieldError;
}

export interface RowSource {
  /** The names in the header; null where every row names its own (NDJSON). */
  columns: readonly string[] | null;
  /** The rows, some at a time, read only as fast as they are taken. */
  rows: AsyncIterable<Row[]>;
}

/** Reads one column of a row; undefined when the row has no value there. */
export type ReadCell = (cells: unknown) => unknown;
