import type { Cache } from "../../cache/cache.ts";
import type { Invalidator } from "../../cache/invalidator.ts";
import { ORDERS_TAG, orderTag } from "../../cache/tags.ts";
import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { createFairSlots } from "../../core/fair-slots.ts";
import { isUuid, newId, timeOfId } from "../../core/ids.ts";
import { principalName, type RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { pruneAll } from "../../db/prune.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { Announcer } from "../../streams/producer.ts";
import { recordAudit } from "../audit/index.ts";
import type { Idempotency } from "../idempotency/index.ts";
import * as repository from "./repository.ts";
import type { Order, OrderInput, OrderListQuery, OrderPage, OrderQueued, OrderStatus } from "./schema.ts";
import { allowedTransitions, mayMove } from "./transitions.ts";

export interface OrdersDeps {
  db: Database;
  cache: Cache;
  readGuard: ReadGuard;
  idempotency: Idempotency;
  announcer: Announcer;
  invalidator: Invalidator;
  requestTimeoutMs: number;
  historyRetentionDays: number;
}

export type OrdersService = ReturnType<typeof createOrdersService>;

/** Leaves connections and turns to others. The queue is that of purchases. */
const RUNNING = 4;
const PER_TENANT = 3;
const WAITING = 5_000;
const LINE_SHARE = 1 / 3;
/**
 * How old an answer can be at most when a process dies between a commit and the deletion of its
 * tags.
 */
const TTL_SECONDS = 30;

/**
 * Orders as clients see them. Every change is a command that waits in its group for a worker, see
 * handling.ts.
 */
export function createOrdersService(deps: OrdersDeps) {
  const { db, cache, readGuard, idempotency, announcer, invalidator } = deps;
  const slots = createFairSlots({
    running: RUNNING,
    perKey: PER_TENANT,
    waiting: WAITING,
    waitMs: deps.requestTimeoutMs * LINE_SHARE,
  });

  /**
   * A command on an order, refused at once when it is illegal now. The worker checks again when its
   * turn comes.
   */
  async function command(ctx: RequestContext, id: string, kind: "status" | "cancel", toStatus: OrderStatus) {
    const { tenantId, priority = "normal" } = ctx;
    const messageId = newId();
    const groupId = await slots.run(tenantId, priority, () =>
      db.transaction(async (tx) => {
        const order = isUuid(id) ? await repository.selectStanding(tx, tenantId, id) : null;
        if (!order || !mayTouch(ctx, order.userId))
          throw new AppError("not_found", "There is no such order.");
        if (!mayMove(order.status, toStatus))
          throw new AppError("conflict", `An order that is ${order.status} can't become ${toStatus}.`);
        const requestedBy = principalName(ctx.principal);
        await repository.enqueueCommand(tx, tenantId, {
          messageId,
          groupId: order.groupId,
          orderId: id,
          kind,
          toStatus,
          requestedBy,
        });
        await recordAudit(tx, ctx, {
          action: kind === "cancel" ? "order.cancel_requested" : "order.status_requested",
          target: id,
          before: { status: order.status },
          after: { status: toStatus },
        });
        return order.groupId;
      }),
    );
    void announcer.announceOrders([{ tenantId, groupId }]);
    return { id, messageId, status: "queued" as const };
  }

  async function readOrder(tenantId: string, id: string): Promise<Order> {
    const row = await repository.selectOrder(db.read, tenantId, id);
    if (!row) throw notFound();
    const { history, ...order } = row;
    return { ...toSummary(order), history, allowedTransitions: allowedTransitions(order.status) };
  }

  return {
    /**
     * Resolves after the commit of the command. A `deduplicationId` that still counts yields the
     * first order.
     */
    async createOrder(ctx: RequestContext, input: OrderInput, idempotencyKey: string | undefined) {
      const { tenantId, principal, priority = "normal" } = ctx;
      const id = newId();
      const isCustomer = principal.kind === "user" && principal.role === "customer";
      const { deduplicationId, groupId = input.customerEmail } = input;
      const order: repository.NewOrder = {
        id,
        messageId: newId(),
        createdAt: new Date(timeOfId(id)).toISOString(),
        groupId,
        // Staff and keys place orders for others.
        userId: isCustomer ? principal.userId : null,
        customerName: input.customerName,
        customerEmail: input.customerEmail,
        items: input.items,
        requestedBy: principalName(principal),
        // One customer's ids must not collide with another's; those of the shop's own clients are
        // shared.
        deduplication: deduplicationId
          ? { owner: isCustomer ? principal.userId : "", id: deduplicationId }
          : null,
      };
      const enqueue = async (sql: Parameters<typeof repository.enqueueOrder>[0]): Promise<OrderQueued> => {
        const queued = await repository.enqueueOrder(sql, tenantId, order);
        return { ...queued, status: "queued", deduplicated: queued.id !== id };
      };
      const request = { key: idempotencyKey, operation: "createOrder", payload: input };
      const answer = await slots.run(tenantId, priority, async () =>
        idempotencyKey === undefined
          ? // One statement, in a transaction for the sake of its pool, which waits seconds for a group that is locked.
            { body: await db.transaction(enqueue), replayed: false }
          : idempotency(ctx, request, async (tx) => ({ status: 202, body: await enqueue(tx) })),
      );
      const queued = answer.body as OrderQueued;
      void announcer.announceOrders([{ tenantId, groupId }]);
      if (queued.id === id) await invalidator.invalidateTags(tenantId, [ORDERS_TAG]);
      return { queued, replayed: answer.replayed };
    },

    /** Throws `not_found`, and `conflict` when the order can't change to that status. */
    updateOrderStatus: (ctx: RequestContext, id: string, status: OrderStatus) =>
      command(ctx, id, "status", status),

    /** Cancels and hides. Throws like `updateOrderStatus`. */
    cancelOrder: (ctx: RequestContext, id: string) => command(ctx, id, "cancel", "cancelled"),

    /** Newest first; customers see their own. */
    async listOrders(ctx: RequestContext, query: OrderListQuery): Promise<OrderPage> {
      const { tenantId } = ctx;
      const { cursor, limit, ...filters } = query;
      const bound = { ...filters, userId: ownOnly(ctx) };
      const [createdAt = "", id = ""] = cursor ? decodeCursor(bound, cursor, 2) : [];
      if (cursor && !(isUuid(id) && !Number.isNaN(Date.parse(createdAt))))
        throw new AppError("invalid_input", "The cursor is not valid.");
      const before = cursor ? { createdAt, id } : undefined;
      const question = {
        tenantId,
        scope: "orders" as const,
        name: `orders:${JSON.stringify([bound, before, limit])}`,
        tags: [ORDERS_TAG],
        ttlSeconds: TTL_SECONDS,
        uncached: before !== undefined || Object.values(filters).some((value) => value !== undefined),
      };
      const { value } = await cache.getOrCompute(question, async () => {
        const rows = await readGuard.run(
          () => repository.selectOrders(db.read, tenantId, { ...bound, before, limit: limit + 1 }),
          ctx,
        );
        const items = rows.slice(0, limit).map(toSummary);
        const last = rows.length > limit ? items.at(-1) : undefined;
        return { items, nextCursor: last ? encodeCursor(bound, [last.createdAt, last.id]) : null };
      });
      return value;
    },

    async getOrder(ctx: RequestContext, id: string): Promise<Order> {
      const { tenantId } = ctx;
      const question = {
        tenantId,
        scope: "orders" as const,
        name: `order:${id}`,
        tags: [orderTag(id)],
        ttlSeconds: TTL_SECONDS,
      };
      if (!isUuid(id)) throw notFound();
      const { value } = await cache.getOrCompute(question, () =>
        readGuard.run(() => readOrder(tenantId, id), ctx),
      );
      if (!mayTouch(ctx, value.userId)) throw notFound();
      return value;
    },

    /** One round of housekeeping; returns how many rows went. */
    async prune(): Promise<number> {
      const deduplications = await pruneAll((limit) => repository.pruneDeduplications(db.write, limit));
      const commands = await pruneAll((limit) => db.transaction((tx) => repository.pruneCommands(tx, limit)));
      const history = await pruneAll((limit) =>
        repository.pruneHistory(db.write, deps.historyRetentionDays, limit),
      );
      return deduplications + commands + history;
    },
  };
}

function notFound(): AppError {
  return new AppError("not_found", "There is no such order.");
}

/**
 * The user that a customer is bound to; undefined for those who may see every order of the tenant.
 */
function ownOnly({ principal }: RequestContext): string | undefined {
  return principal.kind === "user" && principal.role === "customer" ? principal.userId : undefined;
}

function mayTouch(ctx: RequestContext, userId: string | null): boolean {
  const own = ownOnly(ctx);
  return own === undefined || own === userId;
}

function toSummary({ createdAt, updatedAt, ...row }: repository.OrderRow) {
  return { ...row, createdAt: createdAt.toISOString(), updatedAt: updatedAt.toISOString() };
}
