import type { FieldError } from "../../core/errors.ts";
import type { Mapping } from "./mapping.ts";
import type { ReadCell } from "./rows.ts";
import { timestampReader } from "./timestamp-format.ts";

/** An event as a client would send it, not checked yet; or why the row can't be one. */
export type Mapped = { input: Record<string, unknown> } | { errors: FieldError[] };
export type MapRow = (cells: unknown) => Mapped;

const DECIMAL = /^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$/;

/** The columns that a mapping takes values from. */
export function columnsOf(mapping: Mapping): string[] {
  const { timestamp, type, messageId, productId, userId, anonymousId, sessionId, quantity, price } = mapping;
  const fields = [timestamp, type, messageId, productId, userId, anonymousId, sessionId, quantity, price];
  return [...fields, ...Object.values(mapping.properties)].flatMap((field) => field?.column ?? []);
}

/** Compiles a mapping; `readerOf` finds a column of this file. */
export function createRowMapper(mapping: Mapping, readerOf: (column: string) => ReadCell): MapRow {
  const reader = (field: { column?: string } | undefined): ReadCell =>
    field?.column === undefined ? () => undefined : readerOf(field.column);
  const text = (field: { column: string } | undefined) => {
    const read = reader(field);
    return (cells: unknown) => textOf(read(cells));
  };
  const read = {
    timestamp: reader(mapping.timestamp),
    type: text(mapping.type.column === undefined ? undefined : { column: mapping.type.column }),
    messageId: text(mapping.messageId),
    productId: text(mapping.productId),
    userId: text(mapping.userId),
    anonymousId: text(mapping.anonymousId),
    sessionId: text(mapping.sessionId),
    quantity: reader(mapping.quantity),
    price: reader(mapping.price),
    properties: Object.entries(mapping.properties).map(([name, { column, as }]) => ({
      name,
      column,
      as,
      read: readerOf(column),
    })),
  };
  const toMs = timestampReader(mapping.timestamp.format) ?? (() => null);
  const names = new Map(Object.entries(mapping.type.values ?? {}));

  return (cells) => {
    const errors: FieldError[] = [];
    const reject = (column: string | undefined, code: string, message: string) =>
      errors.push({ path: column ?? "", code, message });

    const time = read.timestamp(cells);
    const timestamp = time === undefined ? null : toMs(time);
    if (timestamp === null) {
      const wanted = `is not a time in the format ${mapping.timestamp.format}`;
      reject(mapping.timestamp.column, "invalid_timestamp", time === undefined ? "has no time" : wanted);
    }

    const properties: Record<string, unknown> = {};
    for (const { name, column, as, read: readProperty } of read.properties) {
      const value = convert(readProperty(cells), as);
      if (value === NOT_CONVERTIBLE) reject(column, `invalid_${as}`, `is no ${as}`);
      else if (value !== undefined) properties[name] = value;
    }
    const quantity = convert(read.quantity(cells), "number");
    const price = convert(read.price(cells), "number");
    if (quantity === NOT_CONVERTIBLE) reject(mapping.quantity?.column, "invalid_quantity", "is no number");
    if (price === NOT_CONVERTIBLE) reject(mapping.price?.column, "invalid_price", "is no number");
    if (errors.length > 0) return { errors };

    const isReturn = mapping.quantity?.negative === "refund" && typeof quantity === "number" && quantity < 0;
    if (quantity !== undefined) properties.quantity = isReturn ? -quantity : quantity;
    if (price !== undefined) properties.price = price;
    const named = mapping.type.constant ?? read.type(cells);
    const userId = read.userId(cells);
    const ownAnonymousId =
      mapping.anonymousId?.onlyWithoutUser && userId !== undefined ? undefined : read.anonymousId(cells);
    return {
      input: {
        type: isReturn ? "refund" : (names.get(named ?? "") ?? named),
        timestamp,
        messageId: read.messageId(cells),
        // The contract's product ids have no outer spaces; everything else stays as it is in the file.
        productId: read.productId(cells)?.trim() || undefined,
        userId,
        anonymousId: ownAnonymousId,
        sessionId: read.sessionId(cells),
        properties,
      },
    };
  };
}

const NOT_CONVERTIBLE = Symbol("not convertible");

function convert(value: unknown, as: "text" | "number" | "boolean" | undefined): unknown {
  if (value === undefined || as === undefined) return value;
  if (as === "text") return textOf(value);
  if (typeof value === as) return value;
  const text = String(value).trim();
  if (as === "number") return DECIMAL.test(text) ? Number(text) : NOT_CONVERTIBLE;
  if (/^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
  return NOT_CONVERTIBLE;
}

function textOf(value: unknown): string | undefined {
  if (value === undefined || typeof value === "string") return value as string | undefined;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
