import { PRODUCTS_TAG } from "../../cache/tags.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { isDay } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { sha256 } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import { isStorable } from "../../core/validation.ts";
import {
  type ProductStatsPage,
  type ProductStatsRow,
  selectProductNames,
  selectProductStats,
} from "./catalogue-repository.ts";
import { type Desk, skips } from "./desk.ts";
import { isNumberText } from "./keyset.ts";
import { measuresOf, ROW_METRICS } from "./measures.ts";
import { daysOf, type Range } from "./range.ts";
import type { ProductStatsQuery, RangeQuery, TopQuery } from "./schema.ts";

/**
 * On the tenant's own days every product question has a plan, so it is made only after a cache
 * miss.
 */
export function createProductAnswers(desk: Desk) {
  const { sql, answer, rangeOf, prepare } = desk;

  return {
    async getTopProducts(ctx: RequestContext, query: TopQuery) {
      const range = await rangeOf(ctx, query);
      const { sortBy, limit } = query;
      const name = `top:${sortBy}:${limit}`;
      const question = { name, range, skipCache: skips(query), tags: [PRODUCTS_TAG] };
      return answer(ctx, { ...question, granularity: "day" }, async () => {
        const measure = prepare(ctx, {
          range,
          metrics: ROW_METRICS,
          dimensions: ["product"],
          sort: { by: sortBy, direction: "desc" },
          limit: limit + 1,
        });
        const found = await measure();
        const rows = found.slice(0, limit);
        const names = await selectProductNames(
          sql,
          ctx.tenantId,
          rows.map(({ product = "" }) => product),
        );
        const items = rows.map(({ product = "", ...row }) => {
          return { productId: product, name: names.get(product) ?? null, ...measuresOf(row) };
        });
        return { items, truncated: found.length > limit };
      });
    },

    async getProductTimeseries(ctx: RequestContext, productId: string, query: RangeQuery) {
      const range = await rangeOf(ctx, query);
      const name = `timeseries:${productId}`;
      return answer(ctx, { name, range, granularity: "day", skipCache: skips(query) }, async () => {
        const measure = prepare(ctx, {
          range,
          metrics: ROW_METRICS,
          dimensions: ["day"],
          filters: { productId: [productId] },
        });
        const byDay = new Map((await measure()).map((row) => [row.day, row]));
        const points = daysOf(range).map((day) => ({ day, ...measuresOf(byDay.get(day)) }));
        return { productId, points };
      });
    },

    /**
     * By page or by cursor. A cursor keeps the range of the first page, so midnight changes
     * nothing.
     */
    async getProductStats(ctx: RequestContext, query: ProductStatsQuery) {
      const { search, sortBy, sortDir, limit, cursor } = query;
      if (cursor !== undefined && query.page !== undefined)
        throw new AppError("invalid_input", "Give a page or a cursor.");
      const filters = { search, sortBy, sortDir, ...rangeTexts(query) };
      const after = cursor === undefined ? null : readCursor(filters, cursor, sortBy);
      const asked = after ? { startDate: after.from, endDate: after.to } : query;
      const range = await rangeOf(ctx, asked);
      const page = after ? null : (query.page ?? 1);
      const offset = page === null ? 0 : (page - 1) * limit;
      const listing: ProductStatsPage = { search, sortBy, sortDir, limit: limit + 1, offset, after };
      // With the texts of the range: the cursor in the answer is bound to them.
      const name = `stats:${sha256(JSON.stringify([listing, filters]))}`;
      const uncached = after !== null || offset > 0 || search !== undefined;
      const question = { name, range, skipCache: skips(query), tags: [PRODUCTS_TAG], uncached };
      return answer(ctx, { ...question, granularity: "day" }, async () => {
        const rows = await selectProductStats(sql, ctx.tenantId, range, listing);
        const last = rows.length > limit ? rows[limit - 1] : undefined;
        const key = last && [range.from, range.to, last.sortValue, last.productId];
        return {
          page,
          limit,
          total: Number(rows[0]?.total ?? (await countProducts(ctx, range, listing))),
          items: rows.slice(0, limit).map(toItem),
          nextCursor: key ? encodeCursor(filters, key) : null,
        };
      });
    },
  };

  /** Beyond the last page no row tells how many there are. */
  async function countProducts(
    { tenantId }: RequestContext,
    range: Range,
    listing: ProductStatsPage,
  ): Promise<string> {
    const first = { ...listing, limit: 1, offset: 0, after: null };
    const [row] = await selectProductStats(sql, tenantId, range, first);
    return row?.total ?? "0";
  }
}

function toItem({ productId, name, sku, price, status, ...row }: ProductStatsRow) {
  return {
    productId,
    name,
    sku,
    price: price === null ? null : Number(price),
    status,
    events: Number(row.events ?? 0),
    ...measuresOf(row),
  };
}

/** The range as it was asked for: what a cursor is bound to. */
function rangeTexts({ days, startDate, endDate }: RangeQuery) {
  return { days, startDate, endDate };
}

function readCursor(filters: unknown, cursor: string, sortBy: ProductStatsQuery["sortBy"]) {
  const [from = "", to = "", sortValue = "", productId = ""] = decodeCursor(filters, cursor, 4);
  const sorts = sortBy === "name" ? isStorable(sortValue) : isNumberText(sortValue);
  if (!isDay(from) || !isDay(to) || !sorts || !isStorable(productId))
    throw new AppError("invalid_input", "The cursor is not valid.");
  return { from, to, sortValue, productId };
}
