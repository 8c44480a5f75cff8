import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { fieldErrorsOf } from "../../core/validation.ts";
import { timestampReader } from "./timestamp-format.ts";

const TYPE_SHAPES = 'must be { "constant": "purchase" }, or { "column": "Kind" } where a column says it';

/**
 * How rows become events: the JSON that `--mapping` takes. A column is named by the CSV header, or
 * by the key of an NDJSON object (`a.b` reaches into it). Only `timestamp` and `type` are required.
 * docs/imports.md shows all of it.
 */
export const Mapping = z.strictObject({
  delimiter: z.string().length(1).optional(),
  decimal: z.enum([".", ","]).default("."),
  timestamp: column({
    format: z
      .string()
      .default("auto")
      .refine(
        (format) => timestampReader(format) !== null,
        "must be auto, rfc3339, epochMs, epochSeconds, or a pattern such as YYYY-MM-DD HH:mm:ss or M/D/YYYY H:mm",
      ),
  }),
  type: z
    .strictObject(
      {
        constant: z.string().min(1).optional(),
        column: z.string().min(1).optional(),
        values: z.record(z.string(), z.string()).optional(),
      },
      { error: ({ code }) => (code === "invalid_type" ? TYPE_SHAPES : undefined) },
    )
    .refine(
      ({ constant, column }) => (constant === undefined) !== (column === undefined),
      'must have either "constant" or "column"',
    ),
  messageId: column({}).optional(),
  productId: column({}).optional(),
  userId: column({}).optional(),
  anonymousId: column({ onlyWithoutUser: z.boolean().default(false) }).optional(),
  sessionId: column({}).optional(),
  quantity: column({ negative: z.literal("refund").optional() }).optional(),
  price: column({ negative: z.literal("adjustment").optional() }).optional(),
  revenue: column({ negative: z.literal("adjustment").optional() }).optional(),
  properties: z
    .record(z.string(), column({ as: z.enum(["text", "number", "boolean"]).optional() }))
    .default({}),
});
export type Mapping = z.infer<typeof Mapping>;

/** A column by its name alone, or as an object with more to say about it. */
function column<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.preprocess(
    (value) => (typeof value === "string" ? { column: value } : value),
    z.strictObject({ column: z.string().min(1), ...shape }),
  );
}

/**
 * Checks the text of a mapping file. Throws `invalid_input` naming the file and every entry that is
 * wrong.
 */
export function parseMapping(text: string, file: string): Mapping {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new AppError("invalid_input", `${file} is not valid JSON: ${(error as Error).message}.`);
  }
  const checked = Mapping.safeParse(json);
  if (checked.success) return checked.data;
  const reasons = fieldErrorsOf(checked.error).map(({ path, message }) =>
    path ? `${path}: ${message}` : message,
  );
  throw new AppError("invalid_input", `${file} is no valid mapping: ${reasons.join("; ")}.`);
}

/**
 * UCI "Online Retail" (Chen, Sain, Guo 2012): a row an invoice line; a negative quantity is a
 * return, a negative price an adjustment (of bad debt: 12 August 2011, twice).
 */
const ONLINE_RETAIL: z.input<typeof Mapping> = {
  timestamp: { column: "InvoiceDate", format: "YYYY-MM-DD HH:mm:ss" },
  type: { constant: "purchase" },
  productId: "StockCode",
  userId: "CustomerID",
  anonymousId: { column: "InvoiceNo", onlyWithoutUser: true },
  sessionId: "InvoiceNo",
  quantity: { column: "Quantity", negative: "refund" },
  price: { column: "UnitPrice", negative: "adjustment" },
  properties: { country: "Country" },
};

export const PRESETS: Readonly<Record<string, Mapping>> = { "online-retail": Mapping.parse(ONLINE_RETAIL) };
