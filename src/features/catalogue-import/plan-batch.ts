import { newId } from "../../core/ids.ts";
import { BLANK_PRODUCT, isSameProduct, type ProductFields } from "../products/index.ts";
import type { ParsedRow, ProductRow, RowError } from "./parse-row.ts";

/** A product as its row has it, also a deleted one. */
export interface StoredProduct extends Omit<ProductFields, "price"> {
  id: string;
  /** With two decimals, as Postgres writes it: compared and written without becoming a double. */
  price: string;
  version: number;
  createdAt: Date;
  updatedAt: Date;
  deletedAt: Date | null;
}

export interface ProductChange {
  /** Null for one that is new. */
  before: StoredProduct | null;
  after: StoredProduct;
}

export interface BatchPlan {
  changes: ProductChange[];
  errors: (RowError & { line: number })[];
  counts: { rows: number; created: number; updated: number; failed: number };
  /** Rows that the plan covers; the others need another batch. */
  taken: number;
}

/** What the batch finds: every stored product that one of its rows names by id or sku. */
export interface BatchFrame {
  stored: readonly StoredProduct[];
  /** The import acts for this seller and reaches only its products; null: for the whole tenant. */
  sellerId: string | null;
  now: Date;
}

/**
 * What a batch writes, worked out row by row in the order of the file. A later row sees what an
 * earlier one made; of several rows of one product the last one wins, in one write. Pure, so a
 * batch that collides with another write is planned again. The plan ends before a row that takes a
 * sku which an earlier row took from another product: in one statement the unique index could meet
 * both holders.
 */
export function planBatch(rows: readonly ParsedRow[], frame: BatchFrame): BatchPlan {
  const byId = new Map<string, StoredProduct>();
  const bySku = new Map<string, StoredProduct>();
  for (const product of frame.stored) {
    byId.set(product.id, product);
    if (product.sku !== null && product.deletedAt === null) bySku.set(product.sku, product);
  }
  const before = new Map(byId);
  const freedSkus = new Set<string>();
  const touched = new Set<string>();
  const counts = { rows: 0, created: 0, updated: 0, failed: 0 };
  const errors: BatchPlan["errors"] = [];

  for (const { line, product, errors: rowErrors } of rows) {
    const outcome = product === null ? { errors: rowErrors } : applyRow(product, { byId, bySku }, frame);
    if ("product" in outcome && outcome.product.sku !== null && freedSkus.has(outcome.product.sku)) break;
    counts.rows += 1;
    if ("errors" in outcome) {
      counts.failed += 1;
      for (const error of outcome.errors) errors.push({ line, ...error });
      continue;
    }
    const { product: after, former } = outcome;
    counts[former === undefined ? "created" : "updated"] += 1;
    if (former?.deletedAt === null && former.sku !== null && former.sku !== after.sku) {
      bySku.delete(former.sku);
      freedSkus.add(former.sku);
    }
    if (after.sku !== null) bySku.set(after.sku, after);
    byId.set(after.id, after);
    touched.add(after.id);
  }

  const changes = [...touched].flatMap((id): ProductChange[] => {
    const [first, last] = [before.get(id) ?? null, byId.get(id)];
    if (!last || (first && !differs(first, last))) return [];
    return [{ before: first, after: { ...last, version: (first?.version ?? 0) + 1, updatedAt: frame.now } }];
  });
  return { changes, errors, counts, taken: counts.rows };
}

type RowOutcome =
  | { errors: RowError[] }
  | { product: StoredProduct /** Undefined for a new one. */; former: StoredProduct | undefined };

interface Known {
  byId: Map<string, StoredProduct>;
  bySku: Map<string, StoredProduct>;
}

/**
 * One row against what is known: by its id, else by its sku among live products, else as a new
 * product.
 */
function applyRow(row: ProductRow, known: Known, { sellerId, now }: BatchFrame): RowOutcome {
  const refused = (path: string, message: string): RowOutcome => ({ errors: [{ path, message }] });
  const id = row.id ?? null;
  const former = id !== null ? known.byId.get(id) : row.sku ? known.bySku.get(row.sku) : undefined;
  const named = row.sellerId ?? null;
  if (sellerId !== null && named !== null && named !== sellerId)
    return refused("sellerId", "must be empty or the seller's own");
  if (sellerId !== null && former && former.sellerId !== sellerId)
    return refused(id !== null ? "id" : "sku", "belongs to another seller");
  const product = mergeRow(row, former ?? newProduct(id ?? newId(), now), sellerId);
  const holder = product.sku === null ? undefined : known.bySku.get(product.sku);
  if (holder && holder.id !== product.id) return refused("sku", "belongs to another product");
  return { product, former };
}

function newProduct(id: string, now: Date): StoredProduct {
  const times = { createdAt: now, updatedAt: now, deletedAt: null };
  return { ...BLANK_PRODUCT, id, name: "", price: "", version: 0, ...times };
}

/**
 * A missing column keeps the stored value. So does an empty text, which a file can't tell from
 * none. A deleted product comes back.
 */
function mergeRow(row: ProductRow, former: StoredProduct, sellerId: string | null): StoredProduct {
  const kept = <T>(given: T | undefined, stored: T): T =>
    given === undefined || (given === null && stored === "") ? stored : given;
  return {
    ...former,
    sellerId: sellerId ?? kept(row.sellerId, former.sellerId),
    sku: kept(row.sku, former.sku),
    name: row.name,
    description: kept(row.description, former.description),
    price: row.price,
    quantity: kept(row.quantity, former.quantity),
    category: kept(row.category, former.category),
    imageUrl: kept(row.imageUrl, former.imageUrl),
    status: kept(row.status, former.status),
    deletedAt: null,
  };
}

function differs(before: StoredProduct, after: StoredProduct): boolean {
  return before.deletedAt !== null || !isSameProduct(before, after);
}
