import type { Invalidator } from "../../cache/invalidator.ts";
import { PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
import { AppError } from "../../core/errors.ts";
import { newId } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Idempotency } from "../idempotency/index.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import { insertDomainEvents } from "../outbox/index.ts";
import {
  changeEvents,
  completeProduct,
  isSameProduct,
  lowStockEvents,
  type ProductFields,
  productEvent,
  type StoredProduct,
} from "./product.ts";
import * as repository from "./repository.ts";
import type { Product, ProductChange, ProductInput, ProductReplacement } from "./schema.ts";
import { isVisible, ownerOf, visibilityOf } from "./visibility.ts";

export interface ProductWritesDeps {
  db: Database;
  invalidator: Invalidator;
  idempotency: Idempotency;
  readTenantSettings: ReadTenantSettings;
}

/** The product's id, and the versions that the client expects; undefined: any (If-Match). */
export interface ProductTarget {
  id: string;
  versions?: readonly number[];
}

/**
 * Every change locks the product's row, so an event's `before` is the `after` of the event that
 * precedes it, and writes its event in the same transaction. The answer waits for the cache tags:
 * whoever reads after it reads the change.
 */
export function createProductWrites({ db, invalidator, idempotency, readTenantSettings }: ProductWritesDeps) {
  /**
   * Runs a write and then deletes the tags, even when it was refused: an earlier attempt may have
   * committed and been killed, and its client must not keep reading the old version.
   */
  async function write<T>(tenantId: string, id: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof AppError) && classifyFailure(error) === "conflict") throw skuTaken(error);
      throw error;
    } finally {
      await invalidator.invalidateTags(tenantId, [productTag(id), PRODUCTS_TAG]);
    }
  }

  /** Locks, checks and changes one product. Throws `not_found`, `precondition_failed`. */
  async function change(
    ctx: RequestContext,
    { id, versions }: ProductTarget,
    apply: (tx: Transaction, found: repository.LockedProduct, currency: string) => Promise<StoredProduct>,
  ): Promise<Product> {
    const { tenantId } = ctx;
    const { currency } = await readTenantSettings(tenantId);
    const stored = await write(tenantId, id, () =>
      db.transaction(async (tx) => {
        const found = await repository.lockProduct(tx, tenantId, id);
        if (!found || !isVisible(visibilityOf(ctx), found.product)) throw noProduct();
        if (versions && !versions.includes(found.product.version))
          throw new AppError("precondition_failed", `The product has version ${found.product.version} now.`);
        return apply(tx, found, currency);
      }),
    );
    return { ...stored, currency };
  }

  async function update(
    ctx: RequestContext,
    target: ProductTarget,
    fieldsAfter: (before: StoredProduct) => ProductFields,
  ): Promise<Product> {
    const { tenantId } = ctx;
    return change(ctx, target, async (tx, { product, deleted, tenantThreshold }, currency) => {
      if (deleted) throw noProduct();
      const fields = fieldsAfter(product);
      if (isSameProduct(product, fields)) return product;
      const at = new Date().toISOString();
      const changed = await repository.updateProduct(tx, tenantId, product.id, fields, at);
      const [before, after] = [
        { ...product, currency },
        { ...changed, currency },
      ];
      await insertDomainEvents(tx, tenantId, [
        ...changeEvents(before, after),
        ...lowStockEvents(before, after, tenantThreshold),
      ]);
      return changed;
    });
  }

  return {
    /**
     * Throws `conflict` when the id or the sku is taken, `forbidden` for another seller. Low stock
     * from the start is no crossing: the creator knows the quantity.
     */
    async createProduct(ctx: RequestContext, input: ProductInput, idempotencyKey: string | undefined) {
      const { tenantId } = ctx;
      const { id: given, ...rest } = input;
      const fields = completeProduct({ ...rest, sellerId: ownerOf(ctx, input.sellerId ?? null) });
      const { currency } = await readTenantSettings(tenantId);
      const id = given ?? newId();
      const request = {
        key: idempotencyKey,
        operation: "createProduct",
        payload: { ...input, owner: fields.sellerId },
      };
      const answer = await write(tenantId, id, () =>
        idempotency(ctx, request, async (tx) => {
          const stored = await repository.insertProduct(tx, tenantId, id, fields, new Date().toISOString());
          if (!stored) throw await idTaken(tx, ctx, id);
          const after = { ...stored, currency };
          await insertDomainEvents(tx, tenantId, [productEvent("created", { before: null, after })]);
          return { status: 201, body: after };
        }),
      );
      return { product: answer.body as Product, replayed: answer.replayed };
    },

    /** The whole product; what the input leaves out is null. */
    replaceProduct(ctx: RequestContext, target: ProductTarget, input: ProductReplacement): Promise<Product> {
      const sellerId = ownerOf(ctx, input.sellerId ?? null);
      return update(ctx, target, () => completeProduct({ ...input, sellerId }));
    },

    /** What the input names; null clears. */
    updateProduct(ctx: RequestContext, target: ProductTarget, input: ProductChange): Promise<Product> {
      const { sellerId: named, ...rest } = input;
      const owner = named === undefined ? {} : { sellerId: ownerOf(ctx, named) };
      return update(ctx, target, (before) => ({ ...before, ...rest, ...owner }));
    },

    /** Softly: gone from reads, its sku free, its id kept. */
    async deleteProduct(ctx: RequestContext, target: ProductTarget): Promise<void> {
      await change(ctx, target, async (tx, { product, deleted }, currency) => {
        if (deleted) throw noProduct();
        const at = new Date().toISOString();
        const event = productEvent("deleted", { before: { ...product, currency }, after: null });
        await insertDomainEvents(tx, ctx.tenantId, [event]);
        return repository.setDeleted(tx, ctx.tenantId, product.id, at, at);
      });
    },

    /**
     * Throws `conflict` when another product has its sku by now. A product that is not deleted
     * stays as it is.
     */
    restoreProduct(ctx: RequestContext, target: ProductTarget): Promise<Product> {
      return change(ctx, target, async (tx, { product, deleted }, currency) => {
        if (!deleted) return product;
        const at = new Date().toISOString();
        const restored = await repository.setDeleted(tx, ctx.tenantId, product.id, null, at);
        const after = { ...restored, currency };
        await insertDomainEvents(tx, ctx.tenantId, [productEvent("restored", { before: null, after })]);
        return restored;
      });
    },
  };
}

function noProduct(): AppError {
  return new AppError("not_found", "There is no such product.");
}

async function idTaken(tx: Transaction, ctx: RequestContext, id: string): Promise<AppError> {
  const holder = await repository.lockProduct(tx, ctx.tenantId, id);
  const isOwn = holder !== null && isVisible(visibilityOf(ctx), holder.product);
  const detail =
    isOwn && holder.deleted
      ? "A deleted product has this id: restore it with POST /products/{id}/restore."
      : "Another product has this id.";
  return new AppError("conflict", detail, { errors: [{ path: "id", code: "taken", message: detail }] });
}

function skuTaken(cause: unknown): AppError {
  const detail = "Another product has this sku.";
  return new AppError("conflict", detail, {
    errors: [{ path: "sku", code: "taken", message: detail }],
    cause,
  });
}
