import type { Invalidator } from "../../cache/invalidator.ts";
import { PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { createFairSlots } from "../../core/fair-slots.ts";
import { isUuid, newId } from "../../core/ids.ts";
import { principalName, type RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import type { EventPartitions } from "../../db/partitions.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Announcer } from "../../streams/producer.ts";
import type { Idempotency } from "../idempotency/index.ts";
import { insertDomainEvents } from "../outbox/index.ts";
import { lockShelves, lowStockEvent, moveStock, type Shelf, visibilityOf } from "../products/index.ts";
import * as repository from "./purchases-repository.ts";
import { type SalesBatch, writeSales } from "./sales.ts";
import type { Purchase, PurchaseInput, PurchaseList, PurchaseListQuery } from "./schema.ts";

export interface PurchasesDeps {
  db: Database;
  idempotency: Idempotency;
  partitions: EventPartitions;
  announcer: Announcer;
  invalidator: Invalidator;
  requestTimeoutMs: number;
}

export type PurchasesService = ReturnType<typeof createPurchasesService>;

/**
 * Transactions at once, in all and of one tenant. They are few, so that a rush on one product,
 * whose buyers wait for its row anyway, leaves connections to others. The queue is long, since most
 * of a rush is answered 409 within a millisecond. It is left long before the request's deadline: a
 * client that gets 503 must not buy afterwards.
 */
const RUNNING = 3;
const PER_TENANT = 2;
const WAITING = 5_000;
const LINE_SHARE = 1 / 3;

/** Buying one product at once, at the store's price (G5, G6). */
export function createPurchasesService(deps: PurchasesDeps) {
  const { db, idempotency, partitions, announcer, invalidator } = deps;
  const slots = createFairSlots({
    running: RUNNING,
    perKey: PER_TENANT,
    waiting: WAITING,
    waitMs: deps.requestTimeoutMs * LINE_SHARE,
  });

  return {
    /** Throws `not_found`, `conflict` (not for sale) and `insufficient_stock`. */
    async createPurchase(ctx: RequestContext, input: PurchaseInput, idempotencyKey: string | undefined) {
      const { tenantId, priority = "normal" } = ctx;
      await partitions.ensure([Date.now()]);
      const done: { batch: SalesBatch | null } = { batch: null };
      const request = { key: idempotencyKey, operation: "createPurchase", payload: input };
      const { body, replayed } = await slots.run(tenantId, priority, () =>
        idempotency(ctx, request, async (tx) => {
          const bought = await buy(tx, ctx, input);
          done.batch = bought.batch;
          return { status: 201, body: bought.purchase };
        }),
      );
      if (done.batch) {
        await invalidator.invalidateTags(tenantId, [productTag(input.productId), PRODUCTS_TAG]);
        void announcer.announce([done.batch]);
      }
      return { purchase: body as Purchase, replayed };
    },

    /** The caller's own, newest first: by cursor, or by page with the total. */
    async listMyPurchases(
      { tenantId, principal }: RequestContext,
      query: PurchaseListQuery,
    ): Promise<PurchaseList> {
      const userId = principal.kind === "user" ? principal.userId : "";
      const { limit, cursor, page } = query;
      if (page !== undefined) {
        if (cursor !== undefined) throw new AppError("invalid_input", "Ask by page or by cursor, not both.");
        const [rows, total] = await Promise.all([
          repository.selectPurchases(db.read, tenantId, userId, { limit, offset: (page - 1) * limit }),
          repository.countPurchases(db.read, tenantId, userId),
        ]);
        return { items: rows.map(toPurchase), nextCursor: null, page, limit, total };
      }
      const [createdAt = "", id = ""] = cursor ? decodeCursor("purchases", cursor, 2) : [];
      if (cursor && !(isUuid(id) && !Number.isNaN(Date.parse(createdAt))))
        throw new AppError("invalid_input", "The cursor is not valid.");
      const before = cursor ? { createdAt, id } : undefined;
      const rows = await repository.selectPurchases(db.read, tenantId, userId, { limit: limit + 1, before });
      const items = rows.slice(0, limit).map(toPurchase);
      const last = rows.length > limit ? items.at(-1) : undefined;
      const nextCursor = last ? encodeCursor("purchases", [last.createdAt, last.id]) : null;
      return { items, nextCursor, page: null, limit, total: null };
    },
  };
}

/** Stock, purchase, sales fact and domain event, all of them in the caller's transaction. */
async function buy(tx: Transaction, ctx: RequestContext, input: PurchaseInput) {
  const { tenantId, principal } = ctx;
  const { productId, quantity } = input;
  const shelf = (await lockShelves(tx, tenantId, [productId])).get(productId);
  requireSale(shelf, quantity, visibilityOf(ctx).activeOnly);
  const nowMs = Date.now();
  const id = newId();
  const userId = principal.kind === "user" ? principal.userId : null;
  const left = shelf.quantity === null ? null : shelf.quantity - quantity;
  const low = shelf.quantity === null || left === null ? null : lowStockEvent(shelf, shelf.quantity, left);
  const createdAt = new Date(nowMs).toISOString();
  const [row, batch] = await Promise.all([
    repository.insertPurchase(tx, tenantId, {
      id,
      userId,
      productId,
      quantity,
      unitPrice: shelf.price,
      createdAt,
    }),
    writeSales(tx, tenantId, nowMs, [
      {
        type: "purchase",
        productId,
        userId,
        // A key buys for people it does not name.
        anonymousId: userId === null ? principalName(principal) : null,
        quantity,
        unitPrice: shelf.price,
        properties: { purchaseId: id },
      },
    ]),
    moveStock(tx, tenantId, new Map(left === null ? [] : [[productId, -quantity]])),
    insertDomainEvents(tx, tenantId, low ? [low] : []),
  ]);
  return { purchase: toPurchase(row), batch };
}

/** To those who see active products only, another one does not exist. */
function requireSale(
  shelf: Shelf | undefined,
  quantity: number,
  activeOnly: boolean,
): asserts shelf is Shelf {
  if (!shelf || shelf.deleted || (activeOnly && !shelf.active))
    throw new AppError("not_found", "There is no such product.");
  if (!shelf.active) throw new AppError("conflict", "This product is not for sale.");
  if (shelf.quantity !== null && shelf.quantity < quantity)
    throw new AppError("insufficient_stock", `Only ${shelf.quantity} left in stock.`);
}

function toPurchase({ createdAt, ...row }: repository.PurchaseRow): Purchase {
  return { ...row, createdAt: createdAt.toISOString() };
}
