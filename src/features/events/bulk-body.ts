import { fieldErrorsOf, invalidInput } from "../../core/validation.ts";
import { BulkFrame, BulkQuery } from "./schema.ts";

export const NDJSON = "application/x-ndjson";

/**
 * Stands for a line of NDJSON that is not JSON: it is rejected like any other bad event and does
 * not stop the others.
 */
export const MALFORMED_LINE = Symbol("malformed line");

/** An event a line; blank lines count for nothing. */
export function parseLines(text: string): { events: unknown[] } {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const events = lines.map((line): unknown => {
    try {
      return JSON.parse(line);
    } catch {
      return MALFORMED_LINE;
    }
  });
  return { events };
}

/**
 * Checks the frame of a bulk request; its events are checked one by one later. Throws
 * `invalid_input`.
 */
export function checkFrame(input: unknown): BulkFrame {
  const checked = BulkFrame.safeParse(input);
  if (checked.success) return checked.data;
  throw invalidInput("body", fieldErrorsOf(checked.error));
}

/** A misspelt `strict` must not count as false. Throws `invalid_input`. */
export function checkBulkQuery(input: unknown): { strict: boolean } {
  const checked = BulkQuery.safeParse(input);
  if (checked.success) return { strict: checked.data.strict === true };
  throw invalidInput("query", fieldErrorsOf(checked.error));
}
