/**
 * What commands do, without a database: the same together or one by one, and never more than the
 * stock.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Command, decide, type Effects, type OrderState } from "../../src/features/orders/decide.ts";
import type { OrderStatus } from "../../src/features/orders/schema.ts";
import type { Shelf } from "../../src/features/products/index.ts";

const ORDERS = 4;
const PRODUCTS = 3;
const ASKED: OrderStatus[] = ["confirmed", "shipped", "delivered", "cancelled"];

function shop(quantities: readonly (number | null)[], lines: readonly [number, number][][]) {
  const shelves = new Map<string, Shelf>(
    quantities.map((quantity, n) => [
      `p${n}`,
      {
        id: `p${n}`,
        name: "",
        sellerId: null,
        price: `${n + 1}.25`,
        quantity,
        lowStockThreshold: 2,
        deleted: false,
        active: true,
      },
    ]),
  );
  const orders = new Map<string, OrderState>(
    lines.map((items, n) => [
      `o${n}`,
      {
        id: `o${n}`,
        userId: null,
        customerName: "Ada",
        customerEmail: "ada@example.com",
        status: "queued",
        items: items.map(([product, quantity], line) => ({
          line: line + 1,
          // One more than there are: unknown to the shop.
          productId: `p${product}`,
          quantity,
          unitPrice: null,
          stockTaken: null,
        })),
      },
    ]),
  );
  return { shelves, orders };
}

function command(position: number, order: number, kind: Command["kind"], toStatus: OrderStatus): Command {
  return { groupId: "g", position, id: `m${position}`, orderId: `o${order}`, kind, toStatus, attempts: 0 };
}

const quantity = fc.option(fc.integer({ min: 0, max: 8 }), { nil: null });
const line = fc.tuple(fc.integer({ min: 0, max: PRODUCTS }), fc.integer({ min: 1, max: 4 }));
const scenario = fc.record({
  quantities: fc.array(quantity, { minLength: PRODUCTS, maxLength: PRODUCTS }),
  lines: fc.array(fc.array(line, { minLength: 1, maxLength: 3 }), { minLength: ORDERS, maxLength: ORDERS }),
  changes: fc.array(fc.tuple(fc.integer({ min: 0, max: ORDERS - 1 }), fc.constantFrom(...ASKED)), {
    maxLength: 20,
  }),
});

/** All orders placed first, then whatever is asked of them. */
function commandsOf(changes: readonly [number, OrderStatus][]): Command[] {
  const created = Array.from({ length: ORDERS }, (_, n) => command(n, n, "create", "pending"));
  return [...created, ...changes.map(([order, to], n) => command(ORDERS + n, order, "status", to))];
}

const summary = (effects: Effects[]) => ({
  outcomes: effects.flatMap(({ outcomes }) => outcomes),
  sales: effects.flatMap(({ sales }) => sales),
  events: effects.flatMap(({ events }) =>
    events.map(({ topic, subjectId, payload }) => ({ topic, subjectId, payload })),
  ),
});

test("commands that are handled together do what they do one by one", () => {
  fc.assert(
    fc.property(scenario, ({ quantities, lines, changes }) => {
      const [one, other] = [shop(quantities, lines), shop(quantities, lines)];
      const commands = commandsOf(changes);
      const together = decide(commands, one.orders, one.shelves);
      const single = commands.map((each) => decide([each], other.orders, other.shelves));
      expect(summary([together])).toEqual(summary(single));
      expect(one).toEqual(other);
    }),
  );
});

test("stock = initial - sold + given back, never below zero, and sales say the same", () => {
  fc.assert(
    fc.property(scenario, ({ quantities, lines, changes }) => {
      const { orders, shelves } = shop(quantities, lines);
      const { stock, sales, outcomes } = decide(commandsOf(changes), orders, shelves);
      expect(outcomes.length).toBe(ORDERS + changes.length);
      for (const [n, initial] of quantities.entries()) {
        const left = shelves.get(`p${n}`)?.quantity ?? null;
        const sold = sales
          .filter(({ productId }) => productId === `p${n}`)
          .reduce((sum, sale) => sum + (sale.type === "purchase" ? sale.quantity : -sale.quantity), 0);
        expect(sold).toBeGreaterThanOrEqual(0);
        if (initial === null) expect([left, stock.has(`p${n}`)]).toEqual([null, false]);
        else {
          expect(left).toBe(initial - sold);
          expect(left).toBeGreaterThanOrEqual(0);
          expect((stock.get(`p${n}`) ?? 0) + sold).toBe(0);
        }
      }
      const held = [...orders.values()].filter(({ status }) =>
        ["pending", "confirmed", "shipped", "delivered"].includes(status),
      );
      const pieces = held.flatMap(({ items }) => items).reduce((sum, item) => sum + item.quantity, 0);
      const units = sales.reduce(
        (sum, sale) => sum + (sale.type === "purchase" ? sale.quantity : -sale.quantity),
        0,
      );
      expect(units).toBe(pieces);
    }),
  );
});

test("stock is given back as it was taken, also when tracking it began meanwhile", () => {
  const { orders, shelves } = shop([null, 5, 5], [[[0, 2]]]);
  decide([command(1, 0, "create", "pending")], orders, shelves);
  const shelf = shelves.get("p0") as Shelf;
  shelf.quantity = 10;
  const { stock, sales } = decide([command(2, 0, "cancel", "cancelled")], orders, shelves);
  expect(stock.size).toBe(0);
  expect(sales).toMatchObject([{ type: "refund", productId: "p0", quantity: 2, unitPrice: "1.25" }]);
});
