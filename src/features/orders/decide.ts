import type { DomainEvent } from "../../core/domain-events.ts";
import { sha256 } from "../../core/ids.ts";
import { lowStockEvent, type Shelf } from "../products/index.ts";
import type { Sale } from "./sales.ts";
import type { OrderStatus } from "./schema.ts";
import { mayMove } from "./transitions.ts";

/** A command that is the first of its group, or right behind others that are handled with it. */
export interface Command {
  groupId: string;
  position: number;
  id: string;
  orderId: string;
  kind: "create" | "status" | "cancel";
  toStatus: OrderStatus;
  attempts: number;
}

export interface OrderLine {
  line: number;
  productId: string;
  quantity: number;
  /** Null until the order is accepted. */
  unitPrice: string | null;
  stockTaken: boolean | null;
}

export interface OrderState {
  id: string;
  userId: string | null;
  customerName: string;
  customerEmail: string;
  status: OrderStatus;
  items: OrderLine[];
}

export type Reason = "unknown_product" | "product_inactive" | "insufficient_stock" | "illegal_transition";

/** Everything that handling some commands changes, to be written in one transaction. */
export interface Effects {
  stock: Map<string, number>;
  orders: Map<string, { status: OrderStatus; reason: Reason | null; reasonProductId: string | null }>;
  /** Orders that a client deleted. */
  hidden: Set<string>;
  accepted: { orderId: string; line: number; unitPrice: string; stockTaken: boolean }[];
  sales: Sale[];
  events: DomainEvent[];
  outcomes: (Command & {
    fromStatus: OrderStatus;
    toStatus: OrderStatus;
    outcome: "applied" | "refused";
    reason: Reason | null;
  })[];
}

/**
 * Decides what commands do, in their order, without I/O. The caller has locked the orders and
 * shelves that it passes in. They are changed as decided, so each command sees the effects of those
 * before it. A refusal (unknown product, no stock, illegal transition) is an outcome like any
 * other.
 */
export function decide(
  commands: readonly Command[],
  orders: ReadonlyMap<string, OrderState>,
  shelves: ReadonlyMap<string, Shelf>,
): Effects {
  const effects: Effects = {
    stock: new Map(),
    orders: new Map(),
    hidden: new Set(),
    accepted: [],
    sales: [],
    events: [],
    outcomes: [],
  };
  for (const command of commands) {
    const order = orders.get(command.orderId);
    if (!order) throw new Error(`order ${command.orderId} is gone`);
    const fromStatus = order.status;
    const create = command.kind === "create";
    const legal = create ? fromStatus === "queued" : mayMove(fromStatus, command.toStatus);
    // A client that was told of the deletion must not find the order, whatever cancelled it
    // meanwhile.
    if (command.kind === "cancel" && (legal || fromStatus === "cancelled")) effects.hidden.add(order.id);
    if (!legal) {
      const { toStatus } = command;
      effects.outcomes.push({
        ...command,
        fromStatus,
        toStatus,
        outcome: "refused",
        reason: "illegal_transition",
      });
      continue;
    }
    const refusal = create ? findRefusal(order, shelves) : null;
    order.status = refusal ? "rejected" : command.toStatus;
    if (create && !refusal) accept(order, shelves, effects);
    if (order.status === "cancelled") giveBack(order, shelves, effects);
    const reason = refusal?.reason ?? null;
    const reasonProductId = refusal?.productId ?? null;
    effects.orders.set(order.id, { status: order.status, reason, reasonProductId });
    effects.events.push(orderEvent(order, fromStatus, refusal));
    effects.outcomes.push({ ...command, fromStatus, toStatus: order.status, outcome: "applied", reason });
  }
  return effects;
}

interface Refusal {
  reason: Reason;
  productId: string;
}

/** Why an order can't be accepted: the first line without product or stock. All lines or none. */
function findRefusal({ items }: OrderState, shelves: ReadonlyMap<string, Shelf>): Refusal | null {
  const wanted = new Map<string, number>();
  for (const { productId, quantity } of items) {
    const shelf = shelves.get(productId);
    if (!shelf || shelf.deleted) return { reason: "unknown_product", productId };
    if (!shelf.active) return { reason: "product_inactive", productId };
    const total = (wanted.get(productId) ?? 0) + quantity;
    if (shelf.quantity !== null && shelf.quantity < total) return { reason: "insufficient_stock", productId };
    wanted.set(productId, total);
  }
  return null;
}

function accept(order: OrderState, shelves: ReadonlyMap<string, Shelf>, effects: Effects): void {
  for (const item of order.items) {
    const shelf = shelves.get(item.productId);
    if (!shelf) continue;
    item.unitPrice = shelf.price;
    item.stockTaken = shelf.quantity !== null;
    effects.accepted.push({
      orderId: order.id,
      line: item.line,
      unitPrice: shelf.price,
      stockTaken: item.stockTaken,
    });
    effects.sales.push(saleOf(order, item, "purchase"));
    move(shelf, -item.quantity, effects);
  }
}

/** The reverse of `accept`; an order that was never accepted has taken nothing. */
function giveBack(order: OrderState, shelves: ReadonlyMap<string, Shelf>, effects: Effects): void {
  for (const item of order.items) {
    if (item.unitPrice === null) continue;
    effects.sales.push(saleOf(order, item, "refund"));
    const shelf = shelves.get(item.productId);
    if (shelf && item.stockTaken) move(shelf, item.quantity, effects);
  }
}

function move(shelf: Shelf, delta: number, effects: Effects): void {
  if (shelf.quantity === null) return;
  const before = shelf.quantity;
  shelf.quantity += delta;
  effects.stock.set(shelf.id, (effects.stock.get(shelf.id) ?? 0) + delta);
  const low = lowStockEvent(shelf, before, shelf.quantity);
  if (low) effects.events.push(low);
}

/**
 * A buyer without an account counts as one user by e-mail. It is hashed, since readers of events
 * must not learn it.
 */
function saleOf(order: OrderState, item: OrderLine, type: Sale["type"]): Sale {
  return {
    type,
    productId: item.productId,
    userId: order.userId,
    anonymousId: order.userId === null ? `customer:${sha256(order.customerEmail).slice(0, 24)}` : null,
    quantity: item.quantity,
    unitPrice: item.unitPrice ?? "0",
    properties: { orderId: order.id },
  };
}

function orderEvent(order: OrderState, previousStatus: OrderStatus, refusal: Refusal | null): DomainEvent {
  const { id, status, customerName, customerEmail, items } = order;
  const topic =
    status === "pending"
      ? "order.created"
      : status === "rejected" || status === "cancelled"
        ? (`order.${status}` as const)
        : "order.status_changed";
  const lines = items.map(({ productId, quantity, unitPrice }) => ({
    productId,
    quantity,
    unitPrice: unitPrice === null ? null : Number(unitPrice),
  }));
  return {
    topic,
    subjectId: id,
    sellerId: null,
    payload: {
      orderId: id,
      previousStatus,
      status,
      reason: refusal?.reason ?? null,
      reasonProductId: refusal?.productId ?? null,
      customerName,
      customerEmail,
      items: lines,
    },
  };
}
