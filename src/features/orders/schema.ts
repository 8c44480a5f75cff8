import { z } from "@hono/zod-openapi";
import { isStorable } from "../../core/validation.ts";
import { Instant, numberedPageOf, PageQuery, pageOf } from "../../http/responses.ts";

export const ORDER_STATUSES = [
  "queued",
  "pending",
  "confirmed",
  "shipped",
  "delivered",
  "cancelled",
  "rejected",
] as const;
export type OrderStatus = (typeof ORDER_STATUSES)[number];
const Status = z.enum(ORDER_STATUSES).openapi("OrderStatus");

/** More than a shopping cart holds; it bounds what one command locks. */
const MAX_LINES = 100;
/** Far from the end of an integer column, whatever is added up. */
const MAX_QUANTITY = 100_000;
const MAX_PAGE = 10_000;

const Text = (max: number) =>
  z.string().trim().min(1).max(max).refine(isStorable, "holds a character that can't be stored");
const Email = z.email().max(254).toLowerCase().openapi({ example: "ada@example.com" });
const ProductId = z.string().min(1).max(128).refine(isStorable, "holds a character that can't be stored");
const Quantity = z.number().int().min(1).max(MAX_QUANTITY);

export const PurchaseInput = z
  .strictObject({ productId: ProductId, quantity: Quantity.default(1) })
  .openapi("PurchaseInput", { example: { productId: "tea-100", quantity: 2 } });
export type PurchaseInput = z.infer<typeof PurchaseInput>;

export const Purchase = z
  .object({
    id: z.uuid(),
    productId: z.string(),
    userId: z.string().nullable(),
    quantity: z.number().int(),
    unitPrice: z.number(),
    amount: z.number(),
    createdAt: Instant,
  })
  .openapi("Purchase");
export type Purchase = z.infer<typeof Purchase>;

export const PurchaseListQuery = PageQuery.extend({
  page: z.coerce.number().int().min(1).max(MAX_PAGE).optional(),
});
export type PurchaseListQuery = z.infer<typeof PurchaseListQuery>;

export const PurchaseList = numberedPageOf(Purchase, "PurchaseList");
export type PurchaseList = z.infer<typeof PurchaseList>;

export const OrderInput = z
  .strictObject({
    customerName: Text(200),
    customerEmail: Email,
    items: z
      .array(z.strictObject({ productId: ProductId, quantity: Quantity }))
      .min(1)
      .max(MAX_LINES),
    groupId: Text(200).optional().openapi({
      description: "Orders of one group are handled strictly in order; default: the customer's e-mail",
    }),
    deduplicationId: Text(200).optional().openapi({
      description: "For five minutes, the same id is answered with the first order instead of making another",
    }),
  })
  .openapi("OrderInput", {
    example: {
      customerName: "Ada Lovelace",
      customerEmail: "ada@example.com",
      items: [{ productId: "tea-100", quantity: 2 }],
      deduplicationId: "cart-4711",
    },
  });
export type OrderInput = z.infer<typeof OrderInput>;

export const OrderQueued = z
  .object({
    id: z.uuid(),
    messageId: z.uuid(),
    status: z.literal("queued"),
    deduplicated: z.boolean(),
  })
  .openapi("OrderQueued");
export type OrderQueued = z.infer<typeof OrderQueued>;

export const StatusInput = z
  .strictObject({ status: Status })
  .openapi("OrderStatusInput", { example: { status: "confirmed" } });

export const CommandQueued = z
  .object({ id: z.uuid(), messageId: z.uuid(), status: z.literal("queued") })
  .openapi("OrderCommandQueued");

const OrderItem = z.object({
  productId: z.string(),
  quantity: z.number().int(),
  unitPrice: z.number().nullable().openapi({ description: "The store's price; null until accepted" }),
});

const orderFields = {
  id: z.uuid(),
  groupId: z.string(),
  userId: z.string().nullable(),
  customerName: z.string(),
  customerEmail: z.string(),
  status: Status,
  reason: z.string().nullable().openapi({
    description: "Why it was rejected, or cancelled by nobody's command",
    example: "insufficient_stock",
  }),
  reasonProductId: z.string().nullable(),
  items: z.array(OrderItem),
  amount: z.number().nullable().openapi({ description: "Sum of the lines; null until accepted" }),
  createdAt: Instant,
  updatedAt: Instant,
};

export const OrderSummary = z.object(orderFields).openapi("OrderSummary");
export type OrderSummary = z.infer<typeof OrderSummary>;

export const Order = z
  .object({
    ...orderFields,
    history: z.array(
      z.object({
        messageId: z.uuid(),
        from: Status,
        to: Status,
        outcome: z.enum(["applied", "refused"]),
        reason: z.string().nullable(),
        at: Instant,
      }),
    ),
    allowedTransitions: z.array(Status),
  })
  .openapi("Order");
export type Order = z.infer<typeof Order>;

export const OrderPage = pageOf(OrderSummary, "OrderPage");
export type OrderPage = z.infer<typeof OrderPage>;

export const OrderListQuery = PageQuery.extend({
  status: Status.optional(),
  customerEmail: Email.optional(),
  from: z.iso.datetime({ offset: true }).optional().openapi({ description: "Included" }),
  to: z.iso.datetime({ offset: true }).optional().openapi({ description: "Not included" }),
});
export type OrderListQuery = z.infer<typeof OrderListQuery>;
