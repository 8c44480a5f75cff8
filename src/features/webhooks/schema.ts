import { z } from "@hono/zod-openapi";
import { TOPICS } from "../../core/domain-events.ts";
import { isStorable } from "../../core/validation.ts";
import { Instant, PageQuery, Topic } from "../../http/responses.ts";

const MAX_URL = 2_048;
const MAX_DESCRIPTION = 500;

export const WEBHOOK_STATUSES = ["enabled", "disabled"] as const;
/** By an admin; answered 410; nothing delivered for days. */
export const DISABLED_REASONS = ["manual", "gone", "failing"] as const;
export const DELIVERY_STATUSES = ["pending", "succeeded", "failed"] as const;

const WebhookStatus = z.enum(WEBHOOK_STATUSES).openapi("WebhookStatus");
const DeliveryStatus = z.enum(DELIVERY_STATUSES).openapi("WebhookDeliveryStatus");

const Url = z.string().min(1).max(MAX_URL).openapi({
  description: "An https URL on any port whose host resolves to public addresses only",
  example: "https://hooks.example.com/footfall",
});
const Topics = z
  .array(Topic)
  .max(TOPICS.length)
  .openapi({ description: "What is delivered; empty means everything" });
const Description = z
  .string()
  .trim()
  .max(MAX_DESCRIPTION)
  .refine(isStorable, "holds a character that can't be stored")
  .nullable();

export const WebhookInput = z
  .strictObject({ url: Url, topics: Topics.default([]), description: Description.default(null) })
  .openapi("WebhookInput", {
    example: {
      url: "https://hooks.example.com/footfall",
      topics: ["order.created", "product.lowstock"],
      description: "Warehouse",
    },
  });

export const WebhookChange = z
  .strictObject({
    url: Url.optional(),
    topics: Topics.optional(),
    description: Description.optional(),
    status: WebhookStatus.optional(),
  })
  .openapi("WebhookChange", { example: { status: "disabled" } });

export const Webhook = z
  .object({
    id: z.uuid(),
    url: z.string(),
    description: z.string().nullable(),
    topics: z.array(Topic),
    status: WebhookStatus,
    disabledReason: z.enum(DISABLED_REASONS).nullable(),
    failingSince: Instant.nullable().openapi({ description: "Since when every attempt has failed" }),
    previousSecretUntil: Instant.nullable().openapi({
      description: "Until when the former secret signs as well; null outside a rotation",
    }),
    createdAt: Instant,
    updatedAt: Instant,
  })
  .openapi("Webhook");

export const WebhookWithSecret = Webhook.extend({
  secret: z.string().openapi({
    description: "Verifies signatures, by the Standard Webhooks specification; shown this once",
    example: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
  }),
}).openapi("WebhookWithSecret");

export const WebhookDelivery = z
  .object({
    id: z.uuid(),
    webhookId: z.uuid(),
    messageId: z.string().openapi({
      description: "The webhook-id header: the same for every attempt, every replay and every endpoint",
    }),
    topic: z.string(),
    status: DeliveryStatus,
    attempts: z.number().int(),
    nextAttemptAt: Instant.nullable(),
    lastStatus: z.number().int().nullable().openapi({ description: "HTTP status of the last answer" }),
    lastError: z.string().nullable().openapi({ description: "Why there was none, or why it did not count" }),
    durationMs: z.number().int().nullable(),
    createdAt: Instant,
    finishedAt: Instant.nullable(),
  })
  .openapi("WebhookDelivery");

export const DeliveriesQuery = PageQuery.extend({ status: DeliveryStatus.optional() });
