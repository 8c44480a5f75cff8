import type { OrderStatus } from "./schema.ts";

/**
 * Which status may follow on a client's command. `queued` becomes `pending` or `rejected` when its
 * turn comes.
 */
const NEXT: Record<OrderStatus, readonly OrderStatus[]> = {
  queued: ["cancelled"],
  pending: ["confirmed", "cancelled"],
  confirmed: ["shipped", "cancelled"],
  shipped: ["delivered"],
  delivered: [],
  cancelled: [],
  rejected: [],
};

export function allowedTransitions(status: OrderStatus): OrderStatus[] {
  return [...NEXT[status]];
}

export function mayMove(from: OrderStatus, to: OrderStatus): boolean {
  return NEXT[from].includes(to);
}
