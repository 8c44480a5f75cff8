import { sql } from "drizzle-orm";
import {
  bigint,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";

const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

/**
 * The outbox: domain events, written in the transaction of what they tell. `undone` names the consumers that have not
 * handled the event yet; each takes itself out in the statement of its effect, so an event has one effect a consumer
 * however often it is delivered. The relay announces an event on the stream from `announce_at` on, and again, later and
 * later, while anyone is left in `undone`.
 */
export const outbox = pgTable(
  "outbox",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    topic: text().notNull(),
    /** Id of the product, order or import that the event is about. */
    subjectId: text("subject_id").notNull(),
    sellerId: text("seller_id"),
    payload: jsonb().notNull(),
    undone: text().array().notNull(),
    createdAt: instant("created_at").notNull(),
    announceAt: instant("announce_at").notNull(),
    announcements: integer().notNull().default(0),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("outbox_undone").on(table.announceAt).where(sql`undone <> '{}'`),
    index("outbox_done").on(table.createdAt).where(sql`undone = '{}'`),
  ],
);

/**
 * How many notifications a tenant has had. The statement that stores some moves it on first, and so holds its row until
 * its commit: whoever sees a position sees every position before it.
 */
export const notificationFeeds = pgTable("notification_feeds", {
  tenantId: uuid("tenant_id").primaryKey(),
  position: bigint({ mode: "number" }).notNull(),
});

/** What people are shown; `id` is that of the domain event, `position` counts the tenant's from 1. */
export const notifications = pgTable(
  "notifications",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    topic: text().notNull(),
    subjectId: text("subject_id").notNull(),
    sellerId: text("seller_id"),
    payload: jsonb().notNull(),
    createdAt: instant("created_at").notNull(),
    storedAt: instant("stored_at").notNull(),
    readAt: instant("read_at"),
    position: bigint({ mode: "number" }).notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("notifications_seller").on(table.tenantId, table.sellerId, table.id),
    index("notifications_topic").on(table.tenantId, table.topic, table.id),
    index("notifications_unread").on(table.tenantId, table.id).where(sql`read_at is null`),
    index("notifications_stored").on(table.storedAt),
    uniqueIndex("notifications_position").on(table.tenantId, table.position),
  ],
);

/** Secrets are kept readable: signing needs them. The former one stays valid for a while after a rotation. */
export const webhookEndpoints = pgTable(
  "webhook_endpoints",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    url: text().notNull(),
    description: text(),
    /** Topics that are delivered; empty means all. */
    topics: text().array().notNull(),
    secret: text().notNull(),
    previousSecret: text("previous_secret"),
    previousSecretUntil: instant("previous_secret_until"),
    status: text({ enum: ["enabled", "disabled"] }).notNull(),
    disabledReason: text("disabled_reason"),
    /** Since when no delivery has succeeded. */
    failingSince: instant("failing_since"),
    createdAt: instant("created_at").notNull(),
    updatedAt: instant("updated_at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.id] })],
);

/** One message to one endpoint, with the outcome of its last attempt. */
export const webhookDeliveries = pgTable(
  "webhook_deliveries",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    endpointId: uuid("endpoint_id").notNull(),
    eventId: uuid("event_id").notNull(),
    topic: text().notNull(),
    payload: jsonb().notNull(),
    status: text({ enum: ["pending", "succeeded", "failed"] }).notNull(),
    attempts: integer().notNull().default(0),
    nextAttemptAt: instant("next_attempt_at"),
    lastStatus: integer("last_status"),
    lastError: text("last_error"),
    durationMs: integer("duration_ms"),
    createdAt: instant("created_at").notNull(),
    finishedAt: instant("finished_at"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("webhook_deliveries_endpoint").on(table.tenantId, table.endpointId, table.id),
    index("webhook_deliveries_next")
      .on(table.tenantId, table.endpointId, table.nextAttemptAt)
      .where(sql`status = 'pending'`),
    index("webhook_deliveries_due").on(table.nextAttemptAt).where(sql`status = 'pending'`),
    index("webhook_deliveries_finished").on(table.finishedAt).where(sql`finished_at is not null`),
  ],
);
