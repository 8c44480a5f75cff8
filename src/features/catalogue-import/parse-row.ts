import { MISPLACED_QUOTE, textOfField, wrongWidth } from "../../core/csv.ts";
import {
  isBlank,
  isPlainText,
  isReachableProductId,
  isWebAddress,
  MAX_DESCRIPTION,
  MAX_LABEL,
  MAX_NAME,
  MAX_PRICE,
  MAX_PRODUCT_ID,
  MAX_QUANTITY,
  MAX_URL,
  PRODUCT_STATUSES,
  type ProductStatus,
  RULES,
} from "../../core/product-fields.ts";
import type { Column } from "./columns.ts";
import type { CsvRecord } from "./csv-reader.ts";

/**
 * The rules of core/product-fields.ts for a row, by hand instead of by zod: this takes a tenth of
 * the time, and a million rows of ten cells go through it. A missing column leaves its field
 * undefined: the stored value stays. An empty cell is null.
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
  status?: ProductStatus;
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

const MAX_LENGTHS = {
  id: MAX_PRODUCT_ID,
  sku: MAX_LABEL,
  name: MAX_NAME,
  description: MAX_DESCRIPTION,
  category: MAX_LABEL,
  imageUrl: MAX_URL,
  sellerId: MAX_LABEL,
} as const satisfies Partial<Record<Column, number>>;
type TextColumn = keyof typeof MAX_LENGTHS;

const PRICE = /^0*(\d{1,10})(?:\.(\d{1,2}))?$/;
const QUANTITY = /^0*\d{1,10}$/;

export type ParseRow = (record: CsvRecord) => ParsedRow;

/** The reader of the rows of a file with such columns. */
export function createRowParser(columns: readonly Column[]): ParseRow {
  return ({ line, cells, end, endLine }) => {
    if (cells === null) {
      const errors = [{ path: "", message: MISPLACED_QUOTE }];
      return { line, product: null, errors, end, endLine };
    }
    if (cells.length !== columns.length) {
      const message = wrongWidth(cells.length, columns.length);
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
      if (cell !== "" && !PRODUCT_STATUSES.includes(cell as ProductStatus))
        return `must be ${PRODUCT_STATUSES.join(" or ")}`;
      product.status = cell === "" ? "active" : (cell as ProductStatus);
      return null;
    case "name":
      product.name = textOfField(cell);
      return textProblem(column, product.name);
    default: {
      const text = cell === "" ? null : textOfField(cell);
      product[column] = text;
      return text === null ? null : textProblem(column, text);
    }
  }
}

function setPrice(product: ProductRow, cell: string): string | null {
  const [, whole, cents = ""] = PRICE.exec(cell) ?? [];
  if (whole === undefined) return `must be a number from 0 to ${MAX_PRICE} with at most two decimals`;
  product.price = `${whole}.${cents.padEnd(2, "0")}`;
  return null;
}

/** An import is UTF-8 without NUL, so every text of it can be stored. */
function textProblem(column: TextColumn, text: string): string | null {
  const max = MAX_LENGTHS[column];
  if (text.length > max) return `must not be longer than ${max} characters`;
  switch (column) {
    case "name":
      return isBlank(text) ? RULES.notBlank : null;
    case "description":
      return null;
    case "imageUrl":
      return isWebAddress(text) ? null : RULES.webAddress;
    case "id":
      if (!isReachableProductId(text)) return RULES.reachable;
      return isPlainText(text) ? null : RULES.plainText;
    default:
      return isPlainText(text) ? null : RULES.plainText;
  }
}
