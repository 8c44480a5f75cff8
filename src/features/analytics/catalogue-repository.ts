import type { Sql } from "../../db/client.ts";
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

/** What each sort name means in SQL, over `listed`. Names without regard to case; an unknown product goes by its id. */
const SORT_EXPRESSION: Record<ProductStatsQuery["sortBy"], string> = {
  name: `lower(coalesce(name, "productId")) collate "C"`,
  events: "events",
  views: "views",
  clicks: "clicks",
  addToCarts: "add_to_carts",
  removeFromCarts: "remove_from_carts",
  checkoutStarts: "checkout_starts",
  purchases: "purchases",
  units: "units",
  revenue: "revenue",
  conversionRate: "case when views = 0 then 0 else purchases::float8 / views::float8 end",
};

/** The type in which the values of a sort are compared; as text they travel in cursors. */
function sortType(sortBy: ProductStatsQuery["sortBy"]): string {
  if (sortBy === "name") return `text collate "C"`;
  return sortBy === "conversionRate" ? "float8" : "numeric";
}

/**
 * The table of all products: the live ones of the catalogue, and whatever else has events in the range. `total` counts
 * all rows, also those before the cursor.
 */
export async function selectProductStats(
  sql: Sql,
  tenantId: string,
  { from, to }: Range,
  { search, sortBy, sortDir, limit, offset, after }: ProductStatsPage,
): Promise<ProductStatsRow[]> {
  const sort = sql.unsafe(SORT_EXPRESSION[sortBy]);
  const type = sql.unsafe(sortType(sortBy));
  const [direction, beyond] = sortDir === "desc" ? [sql`desc`, sql`<`] : [sql`asc`, sql`>`];
  const hit = (column: string) => sql`strpos(lower(${sql(column)}), lower(${search ?? ""})) > 0`;
  return sql<ProductStatsRow[]>`
    with measured as (
      select tenant_id, product_id, sum(events) as events, sum(views) as views, sum(clicks) as clicks,
        sum(add_to_carts) as add_to_carts, sum(remove_from_carts) as remove_from_carts,
        sum(checkout_starts) as checkout_starts, sum(purchases) as purchases, sum(units) as units, sum(revenue) as revenue
      from product_daily_stats where tenant_id = ${tenantId} and day between ${from} and ${to}
      group by tenant_id, product_id
    ), known as (
      select tenant_id, id, name, sku, price, case when deleted_at is null then status else 'deleted' end as status
      from products where tenant_id = ${tenantId}
    ), listed as (
      select coalesce(known.id, measured.product_id) collate "C" as "productId", name, sku, price,
        coalesce(status, 'unknown') as status, coalesce(events, 0) as events, coalesce(views, 0) as views,
        coalesce(clicks, 0) as clicks, coalesce(add_to_carts, 0) as add_to_carts,
        coalesce(remove_from_carts, 0) as remove_from_carts, coalesce(checkout_starts, 0) as checkout_starts,
        coalesce(purchases, 0) as purchases, coalesce(units, 0) as units, coalesce(revenue, 0) as revenue
      from known full join measured on measured.tenant_id = known.tenant_id and measured.product_id = known.id
      where measured.product_id is not null or known.status <> 'deleted'
    ), found as (
      select listed.*, ${sort} as sort_value, count(*) over () as total from listed
      ${search === undefined ? sql`` : sql`where ${hit("productId")} or ${hit("name")} or ${hit("sku")}`}
    )
    select "productId", name, sku, price, status, events::text, views::text, clicks::text,
      add_to_carts::text as "addToCarts", remove_from_carts::text as "removeFromCarts",
      checkout_starts::text as "checkoutStarts", purchases::text, units::text, revenue::text,
      (${sql.unsafe(SORT_EXPRESSION.conversionRate)})::text as "conversionRate", sort_value::text as "sortValue", total::text
    from found
    ${after === null ? sql`` : sql`where sort_value ${beyond} ${after.sortValue}::text::${type} or (sort_value = ${after.sortValue}::text::${type} and "productId" > ${after.productId})`}
    order by sort_value ${direction}, "productId" limit ${limit} offset ${offset}`;
}
