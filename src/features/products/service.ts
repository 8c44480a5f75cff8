import type { Cache } from "../../cache/cache.ts";
import type { Invalidator } from "../../cache/invalidator.ts";
import { PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { Idempotency } from "../idempotency/index.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import type { StoredProduct } from "./product.ts";
import { createProductWrites } from "./product-writes.ts";
import * as repository from "./repository.ts";
import type { Product, ProductList, ProductListQuery } from "./schema.ts";
import { searchWords } from "./search-words.ts";
import { isVisible, visibilityOf } from "./visibility.ts";

export interface ProductsDeps {
  db: Database;
  cache: Cache;
  readGuard: ReadGuard;
  invalidator: Invalidator;
  idempotency: Idempotency;
  readTenantSettings: ReadTenantSettings;
}

export type ProductsService = ReturnType<typeof createProductsService>;

/**
 * Tags invalidate entries at once; this bounds how long one outlives a tag that could not be
 * deleted.
 */
const CACHE_SECONDS = 300;
/** What a shop shows in a menu; more are a list of products. */
const MAX_CATEGORIES = 1_000;

/** The catalogue. Reads see what their caller may see; anything else is `not_found`. */
export function createProductsService(deps: ProductsDeps) {
  const { db, cache, readGuard, readTenantSettings } = deps;

  return {
    ...createProductWrites(deps),

    /** From the cache after the first time. Throws `not_found`. */
    async getProduct(ctx: RequestContext, id: string): Promise<Product> {
      const { tenantId } = ctx;
      const question = {
        tenantId,
        scope: "products" as const,
        name: `product:${id}`,
        tags: [productTag(id)],
        ttlSeconds: CACHE_SECONDS,
      };
      const { value } = await cache.getOrCompute(question, async () => {
        const found = await readGuard.run(() => repository.selectProduct(db.read, tenantId, id), ctx);
        // Thrown, so that nothing is remembered of the many ids that nobody has.
        if (!found) throw notFound();
        return found;
      });
      if (!isVisible(visibilityOf(ctx), value)) throw notFound();
      return { ...value, currency: (await readTenantSettings(tenantId)).currency };
    },

    /**
     * By cursor, or by number when `page` is given. Throws `invalid_input` for a cursor of another
     * list.
     */
    async listProducts(ctx: RequestContext, query: ProductListQuery): Promise<ProductList> {
      const { tenantId } = ctx;
      const { cursor, page, limit, search = "", sortBy, sortDir, ...filters } = query;
      if (cursor !== undefined && page !== undefined)
        throw new AppError("invalid_input", "A list goes by cursor or by page, not by both.");
      const order = { sortBy, sortDir: sortDir ?? (sortBy === "createdAt" ? "desc" : "asc") } as const;
      const bound = { ...filters, ...order, search };
      const after = cursor === undefined ? undefined : placeIn(bound, cursor);
      const words = search.trim() === "" ? undefined : searchWords(tenantId, search);
      // Punctuation only: it names nothing.
      if (words === null)
        return {
          items: [],
          nextCursor: null,
          page: page ?? null,
          limit,
          total: page === undefined ? null : 0,
        };
      const filter = { ...filters, ...visibilityOf(ctx), words };
      const { currency } = await readTenantSettings(tenantId);
      const present = (row: StoredProduct) => ({ ...row, currency });

      if (page !== undefined) {
        const numbered = { limit, offset: (page - 1) * limit };
        const [total, rows] = await readGuard.run(
          () =>
            Promise.all([
              repository.countProducts(db.read, tenantId, filter),
              repository.selectProducts(db.read, tenantId, filter, order, numbered),
            ]),
          ctx,
        );
        return { items: rows.map(present), nextCursor: null, page, limit, total };
      }
      const rows = await readGuard.run(
        () => repository.selectProducts(db.read, tenantId, filter, order, { limit: limit + 1, after }),
        ctx,
      );
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map(present),
        nextCursor: last ? encodeCursor(bound, [repository.placeOf(last, order), last.id]) : null,
        page: null,
        limit,
        total: null,
      };
    },

    /** The categories of what the caller sees, the largest first, at most a thousand. Cached. */
    async listCategories(ctx: RequestContext) {
      const { tenantId } = ctx;
      const visibility = visibilityOf(ctx);
      const question = {
        tenantId,
        scope: "products" as const,
        name: `categories:${JSON.stringify([visibility.activeOnly, visibility.owner])}`,
        tags: [PRODUCTS_TAG],
        ttlSeconds: CACHE_SECONDS,
      };
      const { value } = await cache.getOrCompute(question, () =>
        readGuard.run(
          () => repository.selectCategories(db.read, tenantId, visibility, MAX_CATEGORIES + 1),
          ctx,
        ),
      );
      return { items: value.slice(0, MAX_CATEGORIES), truncated: value.length > MAX_CATEGORIES };
    },
  };
}

function notFound(): AppError {
  return new AppError("not_found", "There is no such product.");
}

function placeIn(bound: object, cursor: string): { place: string; id: string } {
  const [place = "", id = ""] = decodeCursor(bound, cursor, 2);
  return { place, id };
}
