import type { Parser } from "csv-parse";

/**
 * Fields of RFC 4180 that a spreadsheet opens as text. A field that begins like a formula gets an
 * apostrophe before it (OWASP, "CSV Injection"), also with the full-width signs of Japanese
 * keyboards. A field of apostrophes and then a formula gets one more, so that taking one off gives
 * back what was written. Numbers are left alone.
 */
const FORMULA = /^'*[=+\-@\t\r\n＝＋－＠]/;
const PREFIXED = /^''*[=+\-@\t\r\n＝＋－＠]/;
const APOSTROPHE = 0x27;

/**
 * A longer record is an unclosed quote that takes in the rest of the file. The bound keeps it out
 * of memory.
 */
export const MAX_RECORD_BYTES = 1024 * 1024;
export const MISPLACED_QUOTE =
  "has a quote inside a value; such a value must be quoted and its quotes doubled";

export function wrongWidth(found: number, width: number): string {
  return `has ${found} values where the header has ${width}`;
}

/** Quoted where it must be, and never a formula. */
export function csvField(value: string | number | null): string {
  if (value === null) return "";
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csvLine(values: readonly (string | number | null)[]): string {
  return `${values.map(csvField).join(",")}\r\n`;
}

/** The text that `csvField` was given, of what a reader took out of its quotes. */
export function textOfField(field: string): string {
  return field.charCodeAt(0) === APOSTROPHE && PREFIXED.test(field) ? field.slice(1) : field;
}

/**
 * Resolves when the parser has read the chunk, so no more of a file is in memory. Rejects with its
 * CsvError.
 */
export function feedCsv(parser: Parser, chunk: Buffer, isLast: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    parser.once("error", reject);
    const done = (error?: Error | null) => {
      parser.off("error", reject);
      if (error) reject(error);
      else resolve();
    };
    if (isLast) parser.end(chunk, done);
    else parser.write(chunk, done);
  });
}
