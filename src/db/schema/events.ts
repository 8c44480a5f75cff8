import { sql } from "drizzle-orm";
import {
  boolean,
  index,
  integer,
  jsonb,
  numeric,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core";

const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

/**
 * Raw events, partitioned by `ts` (the migration does it; drizzle-kit can't). `id` is a UUIDv7 made
 * from `ts`, so an id alone finds its partition.
 */
export const events = pgTable(
  "events",
  {
    tenantId: uuid("tenant_id").notNull(),
    ts: instant("ts").notNull(),
    id: uuid().notNull(),
    batchId: uuid("batch_id").notNull(),
    receivedAt: instant("received_at").notNull(),
    type: text().notNull(),
    productId: text("product_id"),
    userId: text("user_id"),
    anonymousId: text("anonymous_id"),
    sessionId: text("session_id"),
    messageId: text("message_id"),
    quantity: integer(),
    unitPrice: numeric("unit_price", { precision: 15, scale: 4 }),
    /** Of the whole line, where it is not quantity times unit price. */
    amount: numeric({ precision: 30, scale: 4 }),
    properties: jsonb(),
    context: jsonb(),
    /** Since when it counts in no figure; see rollups/void-event.ts. */
    voidedAt: instant("voided_at"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.ts, table.id] }),
    index("events_batch").on(table.tenantId, table.batchId),
    index("events_product").on(table.tenantId, table.productId, table.ts).where(sql`product_id is not null`),
    index("events_session").on(table.tenantId, table.sessionId, table.ts).where(sql`session_id is not null`),
    index("events_user_key").on(table.tenantId, sql`coalesce(user_id, anonymous_id, session_id)`, table.ts),
  ],
);

/** The ledger: one row a committed batch; `rolled_up_at` is the exactly-once mark of the rollup. */
export const eventBatches = pgTable(
  "event_batches",
  {
    tenantId: uuid("tenant_id").notNull(),
    batchId: uuid("batch_id").notNull(),
    receivedAt: instant("received_at").notNull(),
    received: integer().notNull(),
    stored: integer().notNull(),
    duplicates: integer().notNull(),
    rejected: integer().notNull(),
    minTs: instant("min_ts"),
    maxTs: instant("max_ts"),
    rolledUpAt: instant("rolled_up_at"),
    /** That of the tenant when it was rolled up. */
    propertiesVersion: integer("properties_version").notNull().default(0),
    attempts: integer().notNull().default(0),
    lastError: text("last_error"),
    deadLetteredAt: instant("dead_lettered_at"),
    /** Left to the retries of its tenant (rollup_failures): no other statement reads it. */
    held: boolean().notNull().default(false),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.batchId] }),
    index("event_batches_undone").on(table.tenantId, table.receivedAt).where(sql`rolled_up_at is null`),
    index("event_batches_received").on(table.receivedAt),
    index("event_batches_overdue")
      .on(table.receivedAt, table.tenantId)
      .where(sql`rolled_up_at is null and dead_lettered_at is null and not held`),
    index("event_batches_dead")
      .on(table.tenantId, table.receivedAt)
      .where(sql`rolled_up_at is null and dead_lettered_at is not null`),
  ],
);

/** Tenants whose batches could not be rolled up: see features/rollups/failing-tenants.ts. */
export const rollupFailures = pgTable(
  "rollup_failures",
  {
    tenantId: uuid("tenant_id").primaryKey(),
    /** Since the last hour without one. */
    failures: integer().notNull().default(0),
    failedAt: instant("failed_at"),
    /** While it is, only the retries roll up anything of the tenant. */
    paused: boolean().notNull().default(false),
    /** Null when nothing is held. Not rounded: rounding could put "now" into the future. */
    retryAt: timestamp("retry_at", { withTimezone: true }),
    /**
     * Dead letters from before this time are tried again, once the tenant's batches can be rolled
     * up.
     */
    reviveBefore: instant("revive_before"),
    lastError: text("last_error"),
  },
  (table) => [index("rollup_failures_due").on(table.retryAt).where(sql`retry_at is not null`)],
);

/**
 * Deduplication keys: one row an event with a `messageId`. For the shop's own events the key is
 * that id; for customers and publishable keys the id is part of it
 * (features/events/message-key.ts). A null `expires_at` is kept for ever (imports).
 */
export const eventKeys = pgTable(
  "event_keys",
  {
    tenantId: uuid("tenant_id").notNull(),
    messageId: text("message_id").notNull(),
    eventId: uuid("event_id").notNull(),
    expiresAt: instant("expires_at"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.messageId] }),
    index("event_keys_expiry").on(table.expiresAt).where(sql`expires_at is not null`),
  ],
);
