import type { Sql } from "../../db/client.ts";
import { productRows } from "./product-rows.ts";
import type { Range } from "./range.ts";
import type { ProductStatsQuery } from "./schema.ts";

/** The names of products, also of deleted ones; what the catalogue never knew has none. */
export async function selectProductNames(
  sql: Sql,
  tenantId: string,
  productIds: readonly string[],
): Promise<Map<string, string>> {
  if (productIds.length === 0) return new Map();
  const rows = await sql<{ id: string; name: string }[]>`
    select id, name from products where tenant_id = ${tenantId} and id = any(${sql.array([...productIds])}::text[])`;
  return new Map(rows.map(({ id, name }) => [id, name]));
}

/** A product of the table: measures as exact text, and the value that it is sorted by. */
export interface ProductStatsRow {
  productId: string;
  name: string | null;
  sku: string | null;
  price: string | null;
  status: "active" | "inactive" | "deleted" | "unknown";
  total: string;
  sortValue: string;
  [measure: string]: string | null;
}

export interface ProductStatsPage {
  search: string | undefined;
  sortBy: ProductStatsQuery["sortBy"];
  sortDir: ProductStatsQuery["sortDir"];
  limit: number;
  offset: number;
  /** Keyset: only what comes after this row. */
  after: { sortValue: string; productId: string } | null;
}

/** Sums of product days under the names of the contract; as text where they leave Postgres. */
const SUMS: Record<Exclude<ProductStatsQuery["sortBy"], "name">, string> = {
  events: "sum(events)",
  views: "sum(views)",
  clicks: "sum(clicks)",
  addToCarts: "sum(add_to_carts)",
  removeFromCarts: "sum(remove_from_carts)",
  checkoutStarts: "sum(checkout_starts)",
  purchases: "sum(purchases)",
  units: "sum(units)",
  revenue: "sum(revenue)",
  conversionRate: "case when sum(views) = 0 then 0 else sum(purchases)::float8 / sum(views)::float8 end",
};
const SUM_TEXTS = Object.entries(SUMS).map(([name, sum]) => `(${sum})::text as "${name}"`);
/** Names without regard to case; an unknown product goes by its id. */
const SORT_NAME = `lower(coalesce(name, "productId")) collate "C"`;

/** The type in which the values of a sort are compared. In cursors they are text. */
function sortType(sortBy: ProductStatsQuery["sortBy"]): string {
  if (sortBy === "name") return `text collate "C"`;
  return sortBy === "conversionRate" ? "float8" : "numeric";
}

/**
 * The table of all products: the live ones of the catalogue, and whatever else has events in the
 * range. All are sorted by one sum; only those of the page are added up in full. `total` also
 * counts rows before the cursor.
 */
export async function selectProductStats(
  sql: Sql,
  tenantId: string,
  range: Range,
  { search, sortBy, sortDir, limit, offset, after }: ProductStatsPage,
): Promise<ProductStatsRow[]> {
  const type = sql.unsafe(sortType(sortBy));
  const sortValue = sortBy === "name" ? sql.unsafe(SORT_NAME) : sql`coalesce(sort_value, 0)`;
  const [direction, beyond] = sortDir === "desc" ? [sql`desc`, sql`<`] : [sql`asc`, sql`>`];
  const hit = (column: string) => sql`strpos(lower(${sql(column)}), lower(${search ?? ""})) > 0`;
  return sql<ProductStatsRow[]>`
    with measured as (
      select tenant_id, product_id, ${sql.unsafe(sortBy === "name" ? "null" : SUMS[sortBy])} as sort_value
      from ${productRows(sql, tenantId, range, sql``)} group by tenant_id, product_id having sum(events) > 0
    ), known as (
      select tenant_id, id, name, sku, price, case when deleted_at is null then status else 'deleted' end as status
      from products where tenant_id = ${tenantId}
    ), listed as (
      select coalesce(known.id, measured.product_id) collate "C" as "productId", name, sku, price,
        coalesce(status, 'unknown') as status, sort_value
      from known full join measured on measured.tenant_id = known.tenant_id and measured.product_id = known.id
      where measured.product_id is not null or known.status <> 'deleted'
    ), found as (
      select "productId", name, sku, price, status, ${sortValue} as sort_value, count(*) over () as total from listed
      ${search === undefined ? sql`` : sql`where ${hit("productId")} or ${hit("name")} or ${hit("sku")}`}
    ), shown as materialized (
      select * from found
      ${after === null ? sql`` : sql`where sort_value ${beyond} ${after.sortValue}::text::${type} or (sort_value = ${after.sortValue}::text::${type} and "productId" > ${after.productId})`}
      order by sort_value ${direction}, "productId" limit ${limit} offset ${offset}
    ), summed as (
      select product_id, ${sql.unsafe(SUM_TEXTS.join(", "))}
      from shown cross join lateral ${productRows(sql, tenantId, range, sql`and product_id = shown."productId" collate "default"`)}
      group by product_id
    )
    select shown."productId", name, sku, price, status, sort_value::text as "sortValue", total::text, summed.*
    from shown left join summed on summed.product_id = shown."productId"
    order by sort_value ${direction}, shown."productId"`;
}
