import { z } from "@hono/zod-openapi";
import { explainEpoch } from "../../core/explain-instant.ts";
import { isPlainText, MAX_PRODUCT_ID } from "../../core/product-fields.ts";
import { isStorable } from "../../core/validation.ts";
import { Flag, Instant, PageQuery, pageOf } from "../../http/responses.ts";

export const STANDARD_TYPES = [
  "view",
  "click",
  "add_to_cart",
  "remove_from_cart",
  "checkout_start",
  "search",
  "purchase",
  "refund",
  "adjustment",
] as const;

export const MAX_BULK_EVENTS = 2_000;

const TYPE = /^[a-z0-9_.:-]{1,64}$/;
const EVENT_TYPE_RULE = "must have 1 to 64 characters of a-z, 0-9, _ . : and -, such as add_to_cart";

/** Standard types are counted by measures of their own; any other is counted by its name. */
const EventType = z
  .string()
  .regex(TYPE, EVENT_TYPE_RULE)
  .openapi("EventType", {
    type: "string",
    anyOf: [
      { type: "string", enum: [...STANDARD_TYPES] },
      { type: "string", pattern: TYPE.source },
    ],
    example: "view",
  });

const Identifier = z.string().min(1).max(200).refine(isStorable, "holds a character that can't be stored");

/** Any id of a product, known here or not yet. */
export const ProductId = z
  .string()
  .min(1)
  .max(MAX_PRODUCT_ID)
  .refine(isPlainText, "has control characters or outer spaces");

export const Timestamp = z
  .union([
    z.iso.datetime({ offset: true }),
    z
      .number()
      .int()
      .nonnegative()
      .refine((ms) => explainEpoch(ms) === null, {
        error: ({ input }) => explainEpoch(input as number) ?? undefined,
        params: { code: "wrong_unit" },
      }),
  ])
  .openapi({ example: "2026-11-21T09:30:00.000Z", description: "RFC 3339 or epoch milliseconds" });

const FreeObject = z
  .custom<Record<string, unknown>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "must be an object",
  )
  .openapi({ type: "object", additionalProperties: true });

const eventFields = {
  type: EventType,
  messageId: z
    .string()
    .min(1)
    .max(100)
    .refine(isStorable, "holds a character that can't be stored")
    .optional()
    .openapi({
      example: "order-17-line-1",
      description:
        "An event with a known one is a duplicate. Customers (each its own) and publishable keys have messageIds apart from the shop's, so that nobody can use those up.",
    }),
  productId: ProductId.optional(),
  userId: Identifier.optional(),
  anonymousId: Identifier.optional(),
  sessionId: Identifier.optional(),
  timestamp: Timestamp.optional().openapi({
    description:
      "RFC 3339 or epoch milliseconds; without it, now. At most an hour ahead, and at most as old as the server's EVENT_MAX_AGE_DAYS (1125 by default) and the tenant's retention allow.",
  }),
  properties: FreeObject.optional().openapi({ example: { device: "mobile", country: "DE" } }),
  context: FreeObject.optional(),
};

export const EventInput = z.strictObject(eventFields).openapi("EventInput");
export type EventInput = z.infer<typeof EventInput>;

/**
 * Not EventInput.extend(): the document would show it as `allOf` of two schemas that each forbid
 * the other's keys.
 */
export const SingleEventInput = z
  .strictObject({ ...eventFields, sentAt: Timestamp.optional() })
  .openapi("SingleEventInput");

/**
 * The frame of a bulk request. Its events are checked one by one, so that a bad one does not stop
 * the good ones.
 */
export const BulkFrame = z.strictObject({
  events: z.array(z.unknown()).min(1).max(MAX_BULK_EVENTS),
  sentAt: Timestamp.optional(),
  sessionId: Identifier.optional(),
  context: FreeObject.optional(),
});
export type BulkFrame = z.infer<typeof BulkFrame>;

const BeaconKey = z.string().optional().openapi({
  description:
    "A publishable key, for what can send no header, such as navigator.sendBeacon. A secret key is refused here",
  example: "ffp_3kVt0Z9m",
});

export const BeaconQuery = z.object({ key: BeaconKey });

export const BulkQuery = z.strictObject({
  key: BeaconKey,
  strict: Flag.optional().openapi({
    description: "All events or none: one that is not valid refuses the request",
  }),
});

/** How a bulk request is documented: the frame with its events spelled out. */
export const BulkInput = BulkFrame.extend({
  events: z.array(EventInput).min(1).max(MAX_BULK_EVENTS),
}).openapi("BulkInput");

export const WARNING_CODES = ["ignored", "misplaced", "price_unknown"] as const;

const Warning = z
  .object({
    index: z.number().int().openapi({ description: "Place of the event in the request, from 0" }),
    path: z.string(),
    code: z.enum(WARNING_CODES),
  })
  .openapi("EventWarning");

const Warnings = z.array(Warning).optional().openapi({
  description:
    "What an accepted event says in vain; absent when there is nothing of that. ignored: nothing reads this name here (revenue beside price, items or products in properties, total or value of a sale). misplaced: it belongs to the event itself, or into its properties. price_unknown: a refund without price of a product that the catalogue does not know, which counts in units alone. The first 100.",
});

export const EventAccepted = z
  .object({ accepted: z.literal(true), id: z.uuid(), duplicate: z.boolean(), warnings: Warnings })
  .openapi("EventAccepted");

export const BulkAccepted = z
  .object({
    accepted: z.literal(true),
    received: z.number().int(),
    inserted: z.number().int(),
    duplicates: z.number().int(),
    rejected: z.number().int(),
    errors: z.array(
      z.object({ index: z.number().int(), path: z.string(), code: z.string(), message: z.string() }),
    ),
    warnings: Warnings,
  })
  .openapi("BulkAccepted");

export const StoredEvent = z
  .object({
    id: z.uuid(),
    messageId: z.string().nullable(),
    type: z.string(),
    productId: z.string().nullable(),
    userId: z.string().nullable(),
    anonymousId: z.string().nullable(),
    sessionId: z.string().nullable(),
    timestamp: Instant,
    receivedAt: Instant,
    properties: z.record(z.string(), z.unknown()).nullable(),
    context: z.record(z.string(), z.unknown()).nullable(),
    voidedAt: Instant.nullable().openapi({ description: "Since when it counts in no figure" }),
  })
  .openapi("Event");
export type StoredEvent = z.infer<typeof StoredEvent>;

const Filter = z
  .string()
  .min(1)
  .max(200)
  .refine(isStorable, "holds a character that can't be stored")
  .optional();

const filters = {
  type: EventType.optional(),
  productId: ProductId.optional(),
  userId: Filter,
  sessionId: Filter,
  from: z.iso.datetime({ offset: true }).optional().openapi({ description: "Included" }),
  to: z.iso.datetime({ offset: true }).optional().openapi({ description: "Not included" }),
};

export const EventExportQuery = z.strictObject({
  ...filters,
  format: z.enum(["ndjson", "csv"]).default("ndjson"),
});
export type EventExportQuery = z.infer<typeof EventExportQuery>;
export type ExportFormat = EventExportQuery["format"];

export const EventListQuery = PageQuery.extend(filters);
export type EventListQuery = z.infer<typeof EventListQuery>;

export const EventPage = pageOf(StoredEvent, "EventPage");

export const ExportedLine = z
  .union([StoredEvent, z.object({ count: z.number().int() })])
  .openapi("ExportedLine", { description: "An event a line; the last line counts them" });
