import { textOfField } from "../../core/csv.ts";
import { AppError, type FieldError } from "../../core/errors.ts";
import { type Mapped, type MapRow, UNREADABLE_TIME } from "./map-row.ts";
import { timestampReader } from "./timestamp-format.ts";

/**
 * The event envelope of the HTTP contract, as an NDJSON object or as CSV columns with these names.
 */
const FIELDS = ["type", "productId", "userId", "anonymousId", "sessionId", "timestamp", "messageId"];
const REQUIRED = ["type", "timestamp"];
/**
 * Fields of an answer that are not part of an input. They are ignored, so an exported file can be
 * imported.
 */
const GIVEN_BY_US = ["id", "receivedAt"];
/** A field of an export that marks an event as voided: imported, it would count again. */
const VOIDED = "voidedAt";
const VOIDED_EVENT = "says that the event counts in no figure, so it is not imported";
/**
 * Parts of the envelope with keys of their own: a JSON object in one column, or one column a key
 * (`properties.country`).
 */
const OBJECTS = ["properties", "context"];
/** Numbers by contract; any other property of a CSV file stays text. */
const NUMERIC = ["properties.quantity", "properties.price", "properties.revenue"];

const readTime = timestampReader("auto");

/**
 * An NDJSON line that is an event already. Nulls mean "not given", as they do in what the API
 * answers.
 */
export const mapEnvelope: MapRow = (cells) => {
  if (typeof cells !== "object" || cells === null || Array.isArray(cells))
    return failed("", "invalid_type", "is no JSON object");
  const input: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(cells)) {
    if (key === VOIDED && value !== null) return failed(VOIDED, "voided", VOIDED_EVENT);
    if (value !== null && !GIVEN_BY_US.includes(key)) input[key] = value;
  }
  return withTime(input);
};

/** Throws `invalid_input` when a column is no field of an event, or a required one is missing. */
export function createEnvelopeMapper(columns: readonly string[]): MapRow {
  const unknown = columns.filter((column) => !isEnvelopeColumn(column));
  const missing = REQUIRED.filter((field) => !columns.includes(field));
  if (unknown.length > 0 || missing.length > 0) {
    const problems = [
      unknown.length > 0 ? `has columns that are no fields of an event (${unknown.join(", ")})` : "",
      missing.length > 0 ? `lacks ${missing.join(" and ")}` : "",
    ];
    const problem = problems.filter((one) => one !== "").join(" and ");
    throw new AppError(
      "invalid_input",
      `The header ${problem}; say what its columns mean with --mapping or --preset.`,
    );
  }
  const writers = columns.map(writerOf);
  // In a file from elsewhere the apostrophe before a formula may be the shop's own.
  const isExport = GIVEN_BY_US.every((column) => columns.includes(column));
  return (cells) => {
    const input: Record<string, unknown> = {};
    const errors: FieldError[] = [];
    for (const [index, write] of writers.entries()) {
      const text = (cells as string[])[index];
      const problem = text ? write(input, isExport ? textOfField(text) : text) : null;
      const code = problem === VOIDED_EVENT ? "voided" : "invalid_type";
      if (problem) errors.push({ path: columns[index] ?? "", code, message: problem });
    }
    return errors.length > 0 ? { errors } : withTime(input);
  };
}

function isEnvelopeColumn(column: string): boolean {
  if ([...FIELDS, ...GIVEN_BY_US, VOIDED, ...OBJECTS].includes(column)) return true;
  return OBJECTS.some((object) => column.startsWith(`${object}.`) && column.length > object.length + 1);
}

/** Puts a cell where it belongs in the event; answers what is wrong with it. */
type WriteCell = (input: Record<string, unknown>, text: string) => string | null;

function writerOf(column: string): WriteCell {
  if (GIVEN_BY_US.includes(column)) return () => null;
  if (column === VOIDED) return () => VOIDED_EVENT;
  if (OBJECTS.includes(column)) return (input, text) => mergeObject(input, column, text);
  const [object = "", ...rest] = column.split(".");
  if (!OBJECTS.includes(object)) {
    return (input, text) => {
      input[column] = text;
      return null;
    };
  }
  const key = rest.join(".");
  return (input, text) => {
    const value = NUMERIC.includes(column) ? Number(text) : text;
    if (Number.isNaN(value)) return "is no number";
    input[object] = { ...(input[object] as object), [key]: value };
    return null;
  };
}

function mergeObject(input: Record<string, unknown>, column: string, text: string): string | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "is not valid JSON";
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "is no JSON object";
  input[column] = { ...value, ...(input[column] as object) };
  return null;
}

/** "Now" is never right for an imported event, so one without a time is refused. */
function withTime(input: Record<string, unknown>): Mapped {
  if (input.timestamp === undefined) return failed("timestamp", "required", "is missing");
  const timeMs = readTime?.(input.timestamp) ?? null;
  // For a text, the event's own check would ask for the time zone, which a file need not have.
  if (timeMs === null && typeof input.timestamp === "string")
    return failed("timestamp", "invalid_timestamp", UNREADABLE_TIME);
  return { input: { ...input, timestamp: timeMs ?? input.timestamp } };
}

function failed(path: string, code: string, message: string): Mapped {
  return { errors: [{ path, code, message }] };
}
