import { z } from "@hono/zod-openapi";
import { TOPICS } from "../../core/domain-events.ts";
import { Flag, Instant, PageQuery, pageOf, Topic } from "../../http/responses.ts";

/** Separated by commas, as in `topics=product.created,product.lowstock`. */
const Topics = z
  .string()
  .max(1_000)
  .transform((text) => text.split(","))
  .pipe(z.array(Topic))
  .optional()
  .openapi({
    type: "string",
    description: `Only these, separated by commas: ${TOPICS.join(", ")}`,
    example: "product.created,product.lowstock",
  });

export const NotificationListQuery = PageQuery.extend({
  topics: Topics,
  unread: Flag.optional().openapi({ description: "true: only those nobody has read" }),
});
export type NotificationListQuery = z.infer<typeof NotificationListQuery>;

/** 15 digits: a position is a safe integer. */
const Position = z
  .string()
  .regex(/^\d{1,15}$/, "must be the id of an event of this stream: 1 to 15 digits")
  .optional();

export const StreamQuery = z.strictObject({
  topics: Topics,
  lastEventId: Position.openapi({ description: "As Last-Event-ID, which goes before it" }),
});

export const StreamHeaders = z.object({
  "last-event-id": Position.openapi({
    description: "The id of the last event received: what came after it is sent",
  }),
});

const content = {
  id: z.uuid(),
  topic: Topic,
  subjectId: z.string().openapi({ description: "The product, order or import that it is about" }),
  sellerId: z.string().nullable(),
  createdAt: Instant,
  data: z.record(z.string(), z.unknown()),
};

/** What a stored notification and the `data` of a pushed one have in common. */
export type NotificationContent = {
  id: string;
  topic: string;
  subjectId: string;
  sellerId: string | null;
  createdAt: string;
  data: Record<string, unknown>;
};

export const Notification = z.object({ ...content, readAt: Instant.nullable() }).openapi("Notification");

export const NotificationPage = pageOf(Notification, "NotificationPage");
