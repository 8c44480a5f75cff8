import type { EventInput, STANDARD_TYPES } from "./schema.ts";

type StandardType = (typeof STANDARD_TYPES)[number];

interface EventExample {
  summary: string;
  value: EventInput;
}

const visit = { anonymousId: "visitor-1", sessionId: "session-4711" };

/** An event of each standard type, with the properties that it may have. */
export const EVENT_EXAMPLES: Readonly<Record<StandardType, EventExample>> = {
  view: {
    summary: "A product was looked at",
    value: {
      type: "view",
      productId: "tea-100",
      ...visit,
      properties: { device: "mobile", country: "DE", referrer: "https://search.example/" },
    },
  },
  click: {
    summary: "Something of a product was clicked",
    value: { type: "click", productId: "tea-100", ...visit, properties: { element: "photo-2" } },
  },
  add_to_cart: {
    summary: "A product was put into the cart",
    value: { type: "add_to_cart", productId: "tea-100", ...visit, properties: { quantity: 2 } },
  },
  remove_from_cart: {
    summary: "A product was taken out of the cart",
    value: { type: "remove_from_cart", productId: "tea-100", ...visit, properties: { quantity: 1 } },
  },
  checkout_start: {
    summary: "The checkout was begun",
    value: { type: "checkout_start", ...visit, properties: { lines: 3 } },
  },
  search: {
    summary: "Something was searched for",
    value: { type: "search", ...visit, properties: { query: "green tea", results: 12 } },
  },
  purchase: {
    summary: "A line of a sale that was made elsewhere; quantity is 1 unless told, price is of one unit",
    value: {
      type: "purchase",
      messageId: "order-17-line-1",
      productId: "tea-100",
      userId: "customer-9",
      timestamp: "2026-11-21T09:30:00.000Z",
      properties: { quantity: 2, price: 4.95 },
    },
  },
  refund: {
    summary: "A line that was taken back: it lowers units and revenue",
    value: {
      type: "refund",
      messageId: "return-3-line-1",
      productId: "tea-100",
      userId: "customer-9",
      properties: { quantity: 1, price: 4.95 },
    },
  },
  adjustment: {
    summary: "Revenue is corrected without a sale; the price may be negative",
    value: {
      type: "adjustment",
      messageId: "bad-debt-2026-11",
      userId: "customer-9",
      properties: { price: -120.5, reason: "bad debt" },
    },
  },
};

/** The same as one bulk request. */
export const BULK_EXAMPLE = {
  summary: "A visit, sent at once",
  value: { events: [EVENT_EXAMPLES.view.value, EVENT_EXAMPLES.add_to_cart.value] },
};
