import type { Fragment, Sql } from "../../db/client.ts";
import { type CoverPart, coverRange } from "./cover.ts";
import type { Range } from "./range.ts";

const MEASURES = [
  "events",
  "views",
  "clicks",
  "add_to_carts",
  "remove_from_carts",
  "checkout_starts",
  "purchases",
  "units",
  "revenue",
];

/**
 * The rows of products that add up to a range, each with a month (`day` is one of its days): days,
 * sixths of months and months, some of them negative. So a product without events in the range may
 * have rows; only then is `sum(events)` 0. Thirty days of 5,000 products are 30,000 rows (50,000 at
 * most) instead of 145,000; a year is 60,000 to 105,000 instead of 1,760,000.
 */
export function productRows(sql: Sql, tenantId: string, range: Range, condition: Fragment): Fragment {
  const parts = coverRange(range).map((part) => rowsOfPart(sql, tenantId, part, condition));
  return sql`(${parts.map((part, index) => (index === 0 ? part : sql` union all ${part}`))}) product_rows`;
}

function rowsOfPart(sql: Sql, tenantId: string, { period, sign, starts }: CoverPart, condition: Fragment) {
  const measures = sql.unsafe(MEASURES.map((name) => `${sign}${name} as ${name}`).join(", "));
  const among = sql`any(${sql.array(starts)}::date[]) ${condition}`;
  return period === "day"
    ? sql`select tenant_id, day, product_id, ${measures} from product_daily_stats
        where tenant_id = ${tenantId} and day = ${among}`
    : sql`select tenant_id, start as day, product_id, ${measures} from product_period_stats
        where tenant_id = ${tenantId} and period = ${period} and start = ${among}`;
}
