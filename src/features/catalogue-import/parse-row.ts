import type { Column } from "./columns.ts";
import type { CsvRecord } from "./csv-reader.ts";
import { fromCell } from "./spreadsheet.ts";

/**
 * The rules of a row. By hand instead of by zod: a million rows of ten cells go through here, and this takes a tenth of
 * the time. A column that the file lacks leaves its field undefined: the stored value stays. An empty cell is null.
 */
export interface ProductRow {
  id?: string | null;
  sku?: string | null;
  name: string;
  description?: string | null;
  /** Exact: digits, a point, two digits. */
  price: string;
  quantity?: number | null;
  category?: string | null;
  imageUrl?: string | null;
  status?: "active" | "inactive";
  sellerId?: string | null;
}

export interface RowError {
  path: string;
  message: string;
}

export interface ParsedRow {
  line: number;
  /** Null when the row is refused. */
  product: ProductRow | null;
  errors: RowError[];
  end: number;
  endLine: number;
}

const LIMITS = {
  id: 128,
  sku: 128,
  name: 500,
  description: 10_000,
  category: 200,
  imageUrl: 2_000,
  sellerId: 100,
};
/** They are words of the API's paths. */
const RESERVED_IDS = new Set(["import", "imports", "export", "categories"]);
const CONTROL = /\p{Cc}/u;
const EDGE_SPACE = /^\s|\s$/;
const PRICE = /^0*(\d{1,10})(?:\.(\d{1,2}))?$/;
const QUANTITY = /^0*\d{1,10}$/;
const MAX_QUANTITY = 2 ** 31 - 1;

export type ParseRow = (record: CsvRecord) => ParsedRow;

/** The reader of the rows of a file with such columns. */
export function createRowParser(columns: readonly Column[]): ParseRow {
  return ({ line, cells, end, endLine }) => {
    if (cells === null) {
      const message = "has a quote inside a value; such a value must be quoted and its quotes doubled";
      return { line, product: null, errors: [{ path: "", message }], end, endLine };
    }
    if (cells.length !== columns.length) {
      const message = `has ${cells.length} values where the header has ${columns.length}`;
      return { line, product: null, errors: [{ path: "", message }], end, endLine };
    }
    const errors: RowError[] = [];
    const product: ProductRow = { name: "", price: "" };
    for (let index = 0; index < columns.length; index += 1) {
      const column = columns[index] as Column;
      const problem = setField(product, column, cells[index] ?? "");
      if (problem !== null) errors.push({ path: column, message: problem });
    }
    return { line, product: errors.length === 0 ? product : null, errors, end, endLine };
  };
}

/** Puts a cell into its field; returns what is wrong with it instead, or null. */
function setField(product: ProductRow, column: Column, cell: string): string | null {
  switch (column) {
    case "price":
      return setPrice(product, cell);
    case "quantity":
      if (cell !== "" && !(QUANTITY.test(cell) && Number(cell) <= MAX_QUANTITY))
        return `must be a whole number from 0 to ${MAX_QUANTITY}, or empty`;
      product.quantity = cell === "" ? null : Number(cell);
      return null;
    case "status":
      if (cell !== "" && cell !== "active" && cell !== "inactive") return "must be active or inactive";
      product.status = cell === "inactive" ? "inactive" : "active";
      return null;
    case "name":
      if (cell === "") return "must not be empty";
      product.name = fromCell(cell);
      return lengthProblem(product.name, LIMITS.name);
    default: {
      const text = cell === "" ? null : fromCell(cell);
      product[column] = text;
      return text === null ? null : textProblem(column, text);
    }
  }
}

function setPrice(product: ProductRow, cell: string): string | null {
  const [, whole, cents = ""] = PRICE.exec(cell) ?? [];
  if (whole === undefined) return "must be a number from 0 to 9999999999.99 with at most two decimals";
  product.price = `${whole}.${cents.padEnd(2, "0")}`;
  return null;
}

function textProblem(column: keyof typeof LIMITS, text: string): string | null {
  const tooLong = lengthProblem(text, LIMITS[column]);
  if (tooLong !== null) return tooLong;
  if (column === "imageUrl") {
    const isUrl = /^https?:\/\//i.test(text) && URL.canParse(text);
    return isUrl ? null : "must be an http or https URL";
  }
  if (column !== "id") return null;
  if (RESERVED_IDS.has(text)) return `"${text}" is reserved`;
  return CONTROL.test(text) || EDGE_SPACE.test(text)
    ? "must not hold control characters, nor a space at either end"
    : null;
}

function lengthProblem(text: string, max: number): string | null {
  return text.length > max ? `must not be longer than ${max} characters` : null;
}
