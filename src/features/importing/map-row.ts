import type { FieldError } from "../../core/errors.ts";
import type { Mapping } from "./mapping.ts";
import type { ReadCell } from "./rows.ts";
import { timestampReader } from "./timestamp-format.ts";

/** An event as a client would send it, not checked yet; or the reason why the row can't be one. */
export type Mapped = { input: Record<string, unknown> } | { errors: FieldError[] };
export type MapRow = (cells: unknown) => Mapped;

export const UNREADABLE_TIME =
  "is no time that can be read, such as 2026-11-21 09:30:00; say its format in a mapping";

/**
 * By the decimal mark. Marks between thousands are refused: 1.234 would be wrong by a factor of a
 * thousand.
 */
const DECIMALS: Readonly<Record<Mapping["decimal"], RegExp>> = {
  ".": /^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$/,
  ",": /^[+-]?\d+(,\d*)?([eE][+-]?\d+)?$/,
};

/** The columns that a mapping takes values from. */
export function columnsOf(mapping: Mapping): string[] {
  const { timestamp, type, messageId, productId, userId, anonymousId, sessionId } = mapping;
  const amounts = [mapping.quantity, mapping.price, mapping.revenue];
  const fields = [timestamp, type, messageId, productId, userId, anonymousId, sessionId, ...amounts];
  return [...fields, ...Object.values(mapping.properties)].flatMap((field) => field?.column ?? []);
}

/** Compiles a mapping; `readerOf` finds a column of this file. */
export function createRowMapper(mapping: Mapping, readerOf: (column: string) => ReadCell): MapRow {
  const read = compileReaders(mapping, readerOf);
  const { anonymousId: anonymous, type } = mapping;
  const names = new Map(Object.entries(type.values ?? {}));

  return (cells) => {
    const errors: FieldError[] = [];
    const timestamp = read.timestamp(cells, errors);
    const properties = read.properties(cells, errors);
    const quantity = read.quantity(cells, errors);
    const price = read.price(cells, errors);
    const revenue = read.revenue(cells, errors);
    if (errors.length > 0) return { errors };

    const sign = signOf(mapping, { quantity, price, revenue });
    if (quantity !== undefined) properties.quantity = sign.quantity * quantity;
    if (price !== undefined) properties.price = sign.price * price;
    if (revenue !== undefined) properties.revenue = sign.revenue * revenue;
    const named = type.constant ?? read.type(cells);
    const userId = read.userId(cells);
    const isKnown = anonymous?.onlyWithoutUser && userId !== undefined;
    return {
      input: {
        type: sign.type ?? names.get(named ?? "") ?? named,
        timestamp,
        messageId: read.messageId(cells),
        // The contract's product ids have no outer spaces; everything else stays as it is in the
        // file.
        productId: read.productId(cells)?.trim() || undefined,
        userId,
        anonymousId: isKnown ? undefined : read.anonymousId(cells),
        sessionId: read.sessionId(cells),
        properties: Object.keys(properties).length > 0 ? properties : undefined,
      },
    };
  };
}

interface Sign {
  type?: "refund" | "adjustment";
  quantity: 1 | -1;
  price: 1 | -1;
  revenue: 1 | -1;
}

/**
 * What negative numbers of a row mean, and how they become those of an event, whose quantity has no
 * sign. An adjustment is quantity times price, so its price takes the sign of a negative quantity.
 * The total of a return is usually negative; as that of a refund it is not.
 */
function signOf(
  { quantity, price, revenue }: Mapping,
  of: { quantity: number | undefined; price: number | undefined; revenue: number | undefined },
): Sign {
  const isReturn = quantity?.negative === "refund" && (of.quantity ?? 1) < 0;
  const turned = isReturn ? -1 : 1;
  if (price?.negative === "adjustment" && (of.price ?? 0) < 0)
    return { type: "adjustment", quantity: turned, price: turned, revenue: 1 };
  const isNegative = (of.revenue ?? 0) < 0;
  if (revenue?.negative === "adjustment" && isNegative && !isReturn)
    return { type: "adjustment", quantity: 1, price: 1, revenue: 1 };
  const signs = { quantity: turned, price: 1, revenue: isReturn && isNegative ? -1 : 1 } as const;
  return isReturn ? { type: "refund", ...signs } : signs;
}

/** A reader for each field of an event. Those that can fail add a problem to `errors`. */
function compileReaders(mapping: Mapping, readerOf: (column: string) => ReadCell) {
  const reader = (field: { column?: string } | undefined): ReadCell =>
    field?.column === undefined ? () => undefined : readerOf(field.column);
  const text = (field: { column?: string } | undefined) => {
    const read = reader(field);
    return (cells: unknown) => textOf(read(cells));
  };
  const number = (field: { column: string } | undefined) => {
    const read = reader(field);
    return (cells: unknown, errors: FieldError[]) => {
      const value = convert(read(cells), "number", mapping.decimal);
      if (value !== NOT_CONVERTIBLE) return value as number | undefined;
      errors.push({ path: field?.column ?? "", code: "invalid_number", message: "is no number" });
    };
  };
  return {
    timestamp: compileTimestamp(mapping.timestamp, readerOf),
    type: text(mapping.type),
    messageId: text(mapping.messageId),
    productId: text(mapping.productId),
    userId: text(mapping.userId),
    anonymousId: text(mapping.anonymousId),
    sessionId: text(mapping.sessionId),
    quantity: number(mapping.quantity),
    price: number(mapping.price),
    revenue: number(mapping.revenue),
    properties: compileProperties(mapping, readerOf),
  };
}

function compileTimestamp({ column, format }: Mapping["timestamp"], readerOf: (column: string) => ReadCell) {
  const read = readerOf(column);
  const toMs = timestampReader(format);
  return (cells: unknown, errors: FieldError[]) => {
    const value = read(cells);
    const timeMs = value === undefined ? null : (toMs?.(value) ?? null);
    const message =
      value === undefined
        ? "has no time"
        : format === "auto"
          ? UNREADABLE_TIME
          : `is not a time in the format ${format}`;
    if (timeMs === null) errors.push({ path: column, code: "invalid_timestamp", message });
    return timeMs;
  };
}

function compileProperties({ properties, decimal }: Mapping, readerOf: (column: string) => ReadCell) {
  const readers = Object.entries(properties).map(([name, { column, as }]) => {
    return { name, column, as, read: readerOf(column) };
  });
  return (cells: unknown, errors: FieldError[]) => {
    const found: Record<string, unknown> = {};
    for (const { name, column, as, read } of readers) {
      const value = convert(read(cells), as, decimal);
      if (value === NOT_CONVERTIBLE)
        errors.push({ path: column, code: `invalid_${as}`, message: `is no ${as}` });
      else if (value !== undefined) found[name] = value;
    }
    return found;
  };
}

const NOT_CONVERTIBLE = Symbol("not convertible");

function convert(
  value: unknown,
  as: "text" | "number" | "boolean" | undefined,
  decimal: Mapping["decimal"],
): unknown {
  if (value === undefined || as === undefined) return value;
  if (as === "text") return textOf(value);
  if (typeof value === as) return value;
  const text = String(value).trim();
  if (as === "number") return DECIMALS[decimal].test(text) ? Number(text.replace(",", ".")) : NOT_CONVERTIBLE;
  if (/^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
  return NOT_CONVERTIBLE;
}

function textOf(value: unknown): string | undefined {
  if (value === undefined || typeof value === "string") return value as string | undefined;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
