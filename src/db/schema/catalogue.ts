import { sql } from "drizzle-orm";
import {
  bigint,
  check,
  customType,
  index,
  integer,
  jsonb,
  numeric,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";

const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });
const bytea = customType<{ data: Uint8Array }>({ dataType: () => "bytea" });
const live = sql`deleted_at is null`;

/**
 * What separates words, written so that JavaScript and Postgres read it alike in every locale of
 * the database.
 */
export const WORD_SEPARATORS = String.raw`[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+`;

/** The random end of the tenant's id, as the beginning of each of its words. */
const WORD_PREFIX = "'t' || right(tenant_id::text, 12)";

/**
 * The words that a product is found by. Each begins with its tenant, so a search, also by the
 * beginning of a word, reads one tenant's part of the index only. We separate words ourselves:
 * Postgres' parser keeps "tea/coffee" and "ab-12x" together.
 */
export const SEARCH_VECTOR = `to_tsvector('simple'::regconfig, regexp_replace(' ' || name || ' ' || coalesce(sku, '') || ' ' || coalesce(description, '') || ' ' || coalesce(category, ''), '${WORD_SEPARATORS}', ' ' || ${WORD_PREFIX}, 'g'))`;

/** The prefix of a tenant's words, as WORD_PREFIX makes it. */
export function searchPrefix(tenantId: string): string {
  return `t${tenantId.slice(-12)}`;
}

/**
 * The catalogue. A deleted product keeps its row (orders and analytics name it) and frees its sku.
 * `quantity` null: stock is not tracked. `low_stock_threshold` null: the tenant's. The currency is
 * the tenant's. No index has the quantity, so a sale updates none (a heap-only update).
 */
export const products = pgTable(
  "products",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: text().notNull(),
    sellerId: text("seller_id"),
    sku: text(),
    name: text().notNull(),
    description: text(),
    price: numeric({ precision: 12, scale: 2 }).notNull(),
    quantity: integer(),
    category: text(),
    imageUrl: text("image_url"),
    status: text({ enum: ["active", "inactive"] })
      .notNull()
      .default("active"),
    lowStockThreshold: integer("low_stock_threshold"),
    version: integer().notNull().default(1),
    createdAt: instant("created_at").notNull(),
    updatedAt: instant("updated_at").notNull(),
    deletedAt: instant("deleted_at"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    uniqueIndex("products_sku").on(table.tenantId, table.sku).where(live),
    index("products_created").on(table.tenantId, table.createdAt, table.id).where(live),
    index("products_name").on(table.tenantId, table.name, table.id).where(live),
    index("products_price").on(table.tenantId, table.price, table.id).where(live),
    index("products_seller").on(table.tenantId, table.sellerId, table.createdAt, table.id).where(live),
    index("products_seller_category").on(table.tenantId, table.sellerId, table.category).where(live),
    index("products_status").on(table.tenantId, table.status, table.createdAt, table.id).where(live),
    index("products_category").on(table.tenantId, table.category, table.createdAt, table.id).where(live),
    index("products_search").using("gin", sql.raw(SEARCH_VECTOR)).where(live),
    check("products_amounts", sql`price >= 0 and quantity >= 0 and low_stock_threshold >= 0`),
  ],
);

/**
 * A CSV import: the request, how far the worker has come, and its report. `position` is the byte
 * after the last record whose effect is committed. It moves in the transaction of the effect, so
 * after a kill the import goes on there.
 */
export const productImports = pgTable(
  "product_imports",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    sellerId: text("seller_id"),
    status: text({ enum: ["receiving", "queued", "running", "succeeded", "failed"] }).notNull(),
    bytes: bigint({ mode: "number" }).notNull().default(0),
    position: bigint({ mode: "number" }).notNull().default(0),
    line: integer().notNull().default(0),
    columns: jsonb(),
    rows: integer().notNull().default(0),
    created: integer().notNull().default(0),
    updated: integer().notNull().default(0),
    failed: integer().notNull().default(0),
    error: text(),
    createdAt: instant("created_at").notNull(),
    finishedAt: instant("finished_at"),
    /** Until when a worker holds this import. */
    heldUntil: instant("held_until"),
    heldBy: text("held_by"),
    /** Times that a worker took it up since it last came further. */
    attempts: integer().notNull().default(0),
    /**
     * Products that the last batch changed: their cache tags may still be there if its worker died.
     */
    changedIds: text("changed_ids").array(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("product_imports_undone")
      .on(table.createdAt)
      .where(sql`status in ('receiving', 'queued', 'running')`),
  ],
);

/** The spooled file in pieces: in Postgres, so that any worker can take it up. */
export const productImportChunks = pgTable(
  "product_import_chunks",
  {
    tenantId: uuid("tenant_id").notNull(),
    importId: uuid("import_id").notNull(),
    /** Byte at which this piece starts. */
    start: bigint({ mode: "number" }).notNull(),
    data: bytea().notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.importId, table.start] })],
);

/** Rows that could not be imported. */
export const productImportErrors = pgTable(
  "product_import_errors",
  {
    tenantId: uuid("tenant_id").notNull(),
    importId: uuid("import_id").notNull(),
    line: integer().notNull(),
    path: text().notNull(),
    message: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.importId, table.line, table.path] })],
);
