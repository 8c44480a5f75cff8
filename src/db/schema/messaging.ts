import { sql } from "drizzle-orm";
import {
  bigint,
  index,
  integer,
  jsonb,
  pgSequence,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";

const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

/** One for all tenants: taking a number locks nothing. */
export const outboxSequence = pgSequence("outbox_sequence", { cache: 1 });

/**
 * The outbox: domain events, written in the transaction of the change. `undone` names the consumers
 * that have not handled the event yet. Each removes itself in the statement of its effect, so an
 * event has one effect a consumer. Consumers handle events in the order of `sequence`
 * (docs/domain-events.md). The relay announces an event's tenant from `announce_at` on, at growing
 * intervals, while `undone` is not empty.
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
    /** A default, so that processes of an older version take a number, too. Null in older rows. */
    sequence: bigint({ mode: "number" }).default(sql`nextval('outbox_sequence')`),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("outbox_undone").on(table.announceAt).where(sql`undone <> '{}'`),
    index("outbox_notifications")
      .on(table.tenantId, table.sequence.asc().nullsFirst(), table.id)
      .where(sql`'notifications' = any(undone)`),
    index("outbox_webhooks")
      .on(table.tenantId, table.sequence.asc().nullsFirst(), table.id)
      .where(sql`'webhooks' = any(undone)`),
    index("outbox_done").on(table.createdAt).where(sql`undone = '{}'`),
  ],
);

/**
 * Events that a consumer could not handle. Until it has, or gives up (`died_at`), later events of
 * the same subject wait; nothing else does. `event` keeps what was given up.
 */
export const outboxFailures = pgTable(
  "outbox_failures",
  {
    tenantId: uuid("tenant_id").notNull(),
    consumer: text().notNull(),
    eventId: uuid("event_id").notNull(),
    subjectId: text("subject_id").notNull(),
    attempts: integer().notNull(),
    retryAt: instant("retry_at").notNull(),
    error: text().notNull(),
    event: jsonb(),
    diedAt: instant("died_at"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.consumer, table.eventId] }),
    index("outbox_failures_held")
      .on(table.tenantId, table.consumer, table.subjectId)
      .where(sql`died_at is null`),
    index("outbox_failures_dead").on(table.diedAt).where(sql`died_at is not null`),
  ],
);

/**
 * How many notifications a tenant has had. The statement that stores some moves it on first and so
 * holds its row until its commit: whoever sees a position sees every position before it.
 */
export const notificationFeeds = pgTable("notification_feeds", {
  tenantId: uuid("tenant_id").primaryKey(),
  position: bigint({ mode: "number" }).notNull(),
});

/**
 * What people are shown; `id` is that of the domain event, `position` counts the tenant's from 1.
 */
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
    index("notifications_of_seller").on(table.tenantId, table.sellerId, table.position),
    index("notifications_of_topic").on(table.tenantId, table.topic, table.position),
    index("notifications_not_read").on(table.tenantId, table.position).where(sql`read_at is null`),
    index("notifications_stored").on(table.storedAt),
    uniqueIndex("notifications_position").on(table.tenantId, table.position),
  ],
);

/**
 * Secrets are stored readable: signing needs them. After a rotation the former one stays valid for
 * a while.
 */
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
    /** What the event is about, and its number: null for tests, replays and older rows. */
    subjectId: text("subject_id"),
    sequence: bigint({ mode: "number" }),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("webhook_deliveries_endpoint").on(table.tenantId, table.endpointId, table.id),
    index("webhook_deliveries_untried")
      .on(table.tenantId, table.endpointId, table.sequence.asc().nullsFirst(), table.id)
      .where(sql`status = 'pending' and attempts = 0`),
    index("webhook_deliveries_retry")
      .on(table.tenantId, table.endpointId, table.nextAttemptAt)
      .where(sql`status = 'pending' and attempts > 0`),
    index("webhook_deliveries_due").on(table.nextAttemptAt).where(sql`status = 'pending'`),
    index("webhook_deliveries_finished").on(table.finishedAt).where(sql`finished_at is not null`),
  ],
);
