import type { Fragment, Sql } from "../../db/client.ts";
import { SEARCH_VECTOR } from "../../db/schema/catalogue.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { ProductFields, StoredProduct } from "./product.ts";

type ProductRow = Omit<StoredProduct, "createdAt" | "updatedAt"> & { createdAt: Date; updatedAt: Date };

function columns(sql: Sql | Transaction): Fragment {
  return sql`p.id, p.seller_id as "sellerId", p.sku, p.name, p.description, p.price::float8 as price, p.quantity,
    p.category, p.image_url as "imageUrl", p.status, p.low_stock_threshold as "lowStockThreshold", p.version,
    p.created_at as "createdAt", p.updated_at as "updatedAt"`;
}

function toProduct({ createdAt, updatedAt, ...row }: ProductRow): StoredProduct {
  return { ...row, createdAt: createdAt.toISOString(), updatedAt: updatedAt.toISOString() };
}

/** Null when there is none, or it is deleted. */
export async function selectProduct(sql: Sql, tenantId: string, id: string): Promise<StoredProduct | null> {
  const [row] = await sql<ProductRow[]>`
    select ${columns(sql)} from products p
    where p.tenant_id = ${tenantId} and p.id = ${id} and p.deleted_at is null`;
  return row ? toProduct(row) : null;
}

export interface ProductFilter {
  /** Only products of this one. */
  owner?: string;
  activeOnly: boolean;
  status?: string;
  category?: string;
  sellerId?: string;
  /** Decimal text. */
  minPrice?: string;
  maxPrice?: string;
  /** A tsquery. */
  words?: string;
}

export interface ProductOrder {
  sortBy: "createdAt" | "name" | "price" | "quantity";
  sortDir: "asc" | "desc";
}

/** Below and above every quantity: the value of an untracked one, so that it comes last. */
const LAST_QUANTITY = { asc: "2147483647", desc: "-1" } as const;

/** The text of a product's place in an order; with its id, the key of a cursor. */
export function placeOf(product: StoredProduct, { sortBy, sortDir }: ProductOrder): string {
  if (sortBy === "quantity") return String(product.quantity ?? LAST_QUANTITY[sortDir]);
  return String(product[sortBy]);
}

/**
 * A page of live products; `after` is the place and id of the last product before it. Ties go by
 * id.
 */
export async function selectProducts(
  sql: Sql,
  tenantId: string,
  filter: ProductFilter,
  order: ProductOrder,
  page: { limit: number; offset?: number; after?: { place: string; id: string } },
): Promise<StoredProduct[]> {
  const { key, type } = sortKey(sql, order);
  const ascending = order.sortDir === "asc";
  const direction = ascending ? sql`asc` : sql`desc`;
  const { after, limit, offset = 0 } = page;
  // As text first: the driver would take a timestamp for a Date and throw for an invalid one.
  const rest = after
    ? sql`and (${key}, p.id) ${ascending ? sql`>` : sql`<`} (${after.place}::text::${type}, ${after.id}::text)`
    : sql``;
  const where = sql`${matching(sql, tenantId, filter)} ${rest}`;
  // Without `offset 0` Postgres may walk an index in the wanted order and read every product's
  // words on the way, hoping to fill a page soon: 11 s for a word that none of 250,000 has, against
  // 2 ms.
  const found =
    filter.words === undefined
      ? sql`products p where ${where}`
      : sql`(select * from products p where ${where} offset 0) p`;
  const rows = await sql<ProductRow[]>`
    select ${columns(sql)} from ${found}
    order by ${key} ${direction}, p.id ${direction} limit ${limit} offset ${offset}`;
  return rows.map(toProduct);
}

export async function countProducts(sql: Sql, tenantId: string, filter: ProductFilter): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from products p where ${matching(sql, tenantId, filter)}`;
  return row?.n ?? 0;
}

function sortKey(sql: Sql, { sortBy, sortDir }: ProductOrder): { key: Fragment; type: Fragment } {
  switch (sortBy) {
    case "createdAt":
      return { key: sql`p.created_at`, type: sql`timestamptz` };
    case "name":
      return { key: sql`p.name`, type: sql`text` };
    case "price":
      return { key: sql`p.price`, type: sql`numeric` };
    case "quantity":
      return {
        key: sql`coalesce(p.quantity, ${LAST_QUANTITY[sortDir]}::text::int)`,
        type: sql`int`,
      };
  }
}

function matching(sql: Sql, tenantId: string, filter: ProductFilter): Fragment {
  const { owner, activeOnly, status, category, sellerId, minPrice, maxPrice, words } = filter;
  return sql`p.tenant_id = ${tenantId} and p.deleted_at is null
    ${owner === undefined ? sql`` : sql`and p.seller_id = ${owner}`}
    ${activeOnly ? sql`and p.status = 'active'` : sql``}
    ${status === undefined ? sql`` : sql`and p.status = ${status}`}
    ${category === undefined ? sql`` : sql`and p.category = ${category}`}
    ${sellerId === undefined ? sql`` : sql`and p.seller_id = ${sellerId}`}
    ${minPrice === undefined ? sql`` : sql`and p.price >= ${minPrice}::text::numeric`}
    ${maxPrice === undefined ? sql`` : sql`and p.price <= ${maxPrice}::text::numeric`}
    ${words === undefined ? sql`` : sql`and ${sql.unsafe(SEARCH_VECTOR)} @@ to_tsquery('simple', ${words})`}`;
}

/** The categories that have the most products, with their counts. */
export async function selectCategories(
  sql: Sql,
  tenantId: string,
  filter: ProductFilter,
  limit: number,
): Promise<{ category: string; products: number }[]> {
  return sql<{ category: string; products: number }[]>`
    select p.category, count(*)::int as products from products p
    where ${matching(sql, tenantId, filter)} and p.category is not null
    group by p.category order by products desc, p.category limit ${limit}`;
}

export interface LockedProduct {
  product: StoredProduct;
  deleted: boolean;
  tenantThreshold: number;
}

/** Holds the product, deleted or not, until the transaction ends. */
export async function lockProduct(
  tx: Transaction,
  tenantId: string,
  id: string,
): Promise<LockedProduct | null> {
  const [row] = await tx<(ProductRow & { deleted: boolean; tenantThreshold: number })[]>`
    select ${columns(tx)}, p.deleted_at is not null as deleted, t.low_stock_threshold as "tenantThreshold"
    from products p join tenants t on t.id = p.tenant_id
    where p.tenant_id = ${tenantId} and p.id = ${id} for update of p`;
  if (!row) return null;
  const { deleted, tenantThreshold, ...product } = row;
  return { product: toProduct(product), deleted, tenantThreshold };
}

/** Null when the id is taken, by a live product or a deleted one. */
export async function insertProduct(
  tx: Transaction,
  tenantId: string,
  id: string,
  fields: ProductFields,
  at: string,
): Promise<StoredProduct | null> {
  const [row] = await tx<ProductRow[]>`
    insert into products as p (tenant_id, id, seller_id, sku, name, description, price, quantity, category, image_url,
      status, low_stock_threshold, created_at, updated_at)
    values (${tenantId}, ${id}, ${fields.sellerId}, ${fields.sku}, ${fields.name}, ${fields.description},
      ${String(fields.price)}::text::numeric, ${fields.quantity}, ${fields.category}, ${fields.imageUrl},
      ${fields.status}, ${fields.lowStockThreshold}, ${at}, ${at})
    on conflict (tenant_id, id) do nothing returning ${columns(tx)}`;
  return row ? toProduct(row) : null;
}

export async function updateProduct(
  tx: Transaction,
  tenantId: string,
  id: string,
  fields: ProductFields,
  at: string,
): Promise<StoredProduct> {
  const rows = await tx<ProductRow[]>`
    update products p set seller_id = ${fields.sellerId}, sku = ${fields.sku}, name = ${fields.name},
      description = ${fields.description}, price = ${String(fields.price)}::text::numeric, quantity = ${fields.quantity},
      category = ${fields.category}, image_url = ${fields.imageUrl}, status = ${fields.status},
      low_stock_threshold = ${fields.lowStockThreshold}, version = p.version + 1, updated_at = ${at}
    where p.tenant_id = ${tenantId} and p.id = ${id} returning ${columns(tx)}`;
  return toProduct(rows[0] as ProductRow);
}

/** Deletes softly (`deletedAt`) or brings back (null); a version either way. */
export async function setDeleted(
  tx: Transaction,
  tenantId: string,
  id: string,
  deletedAt: string | null,
  at: string,
): Promise<StoredProduct> {
  const rows = await tx<ProductRow[]>`
    update products p set deleted_at = ${deletedAt}, version = p.version + 1, updated_at = ${at}
    where p.tenant_id = ${tenantId} and p.id = ${id} returning ${columns(tx)}`;
  return toProduct(rows[0] as ProductRow);
}
