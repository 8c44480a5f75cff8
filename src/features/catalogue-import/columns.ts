import { AppError } from "../../core/errors.ts";

/** The columns of the CSV files that are imported and exported, in the order of an export. */
export const COLUMNS = [
  "id",
  "sku",
  "name",
  "description",
  "price",
  "quantity",
  "category",
  "imageUrl",
  "status",
  "sellerId",
] as const;
export type Column = (typeof COLUMNS)[number];

/** Every row can become a new product, so a field that a product needs must have a column. */
const REQUIRED: readonly Column[] = ["name", "price"];
/**
 * More than any real header has, known columns or not. A longer header is reported by its length,
 * not name by name.
 */
const MAX_COLUMNS = 100;
const MAX_QUOTED = 60;

/** The columns that a header names. Throws `invalid_input` naming what is wrong with it. */
export function parseHeader(cells: readonly string[]): Column[] {
  if (cells.length > MAX_COLUMNS)
    throw badHeader(`The header has ${cells.length} columns; at most ${MAX_COLUMNS} are read.`);
  const names = cells.map((cell) => cell.trim());
  const unknown = names.find((name) => !COLUMNS.includes(name as Column));
  if (unknown !== undefined) {
    const name = JSON.stringify(unknown.slice(0, MAX_QUOTED));
    if (names.length === 1 && /[;\t]/.test(unknown))
      throw badHeader(`The header is one column, ${name}: separate columns by commas.`);
    throw badHeader(`The header names the column ${name}; there are ${COLUMNS.join(", ")}.`);
  }
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated !== undefined) throw badHeader(`The header names the column "${repeated}" twice.`);
  const missing = REQUIRED.filter((name) => !names.includes(name));
  if (missing.length > 0) throw badHeader(`The header lacks the column ${missing.join(" and ")}.`);
  return names as Column[];
}

function badHeader(detail: string): AppError {
  return new AppError("invalid_input", detail, {
    errors: [{ path: "header", code: "bad_header", message: detail }],
  });
}
