import { sql } from "drizzle-orm";
import {
  bigint,
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
const STATUSES = ["queued", "pending", "confirmed", "shipped", "delivered", "cancelled", "rejected"] as const;

/** A product bought at once, at the store's price. `user_id` null: bought with an API key. */
export const purchases = pgTable(
  "purchases",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    userId: text("user_id"),
    productId: text("product_id").notNull(),
    quantity: integer().notNull(),
    unitPrice: numeric("unit_price", { precision: 12, scale: 2 }).notNull(),
    createdAt: instant("created_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("purchases_user").on(table.tenantId, table.userId, table.createdAt, table.id),
  ],
);

/**
 * An order as its handled commands have left it. `user_id` null: placed by staff or an API key for
 * a customer. `hidden_at`: deleted by a client; the row stays, since sales facts and history name
 * it.
 */
export const orders = pgTable(
  "orders",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    groupId: text("group_id").notNull(),
    userId: text("user_id"),
    customerName: text("customer_name").notNull(),
    customerEmail: text("customer_email").notNull(),
    status: text({ enum: STATUSES }).notNull(),
    /** Why it was rejected or cancelled, and the product that it is about, if any. */
    reason: text(),
    reasonProductId: text("reason_product_id"),
    createdAt: instant("created_at").notNull(),
    updatedAt: instant("updated_at").notNull(),
    hiddenAt: instant("hidden_at"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("orders_created").on(table.tenantId, table.createdAt, table.id).where(sql`hidden_at is null`),
    index("orders_status")
      .on(table.tenantId, table.status, table.createdAt, table.id)
      .where(sql`hidden_at is null`),
    index("orders_email")
      .on(table.tenantId, table.customerEmail, table.createdAt, table.id)
      .where(sql`hidden_at is null`),
    index("orders_user")
      .on(table.tenantId, table.userId, table.createdAt, table.id)
      .where(sql`hidden_at is null and user_id is not null`),
  ],
);

/**
 * The lines of an order. Price and stock are settled when the order is accepted; until then both
 * are null.
 */
export const orderItems = pgTable(
  "order_items",
  {
    tenantId: uuid("tenant_id").notNull(),
    orderId: uuid("order_id").notNull(),
    line: integer().notNull(),
    productId: text("product_id").notNull(),
    quantity: integer().notNull(),
    unitPrice: numeric("unit_price", { precision: 12, scale: 2 }),
    /** False for a product whose stock was not tracked: there is nothing to give back. */
    stockTaken: boolean("stock_taken"),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.orderId, table.line] })],
);

/** The outcome of every command on an order; written in the transaction of its effect. */
export const orderHistory = pgTable(
  "order_history",
  {
    tenantId: uuid("tenant_id").notNull(),
    orderId: uuid("order_id").notNull(),
    id: uuid().notNull(),
    /** The command's place in its group: the order in which effects happened. */
    position: bigint({ mode: "number" }).notNull(),
    messageId: uuid("message_id").notNull(),
    fromStatus: text("from_status", { enum: STATUSES }).notNull(),
    toStatus: text("to_status", { enum: STATUSES }).notNull(),
    outcome: text({ enum: ["applied", "refused"] }).notNull(),
    reason: text(),
    at: instant("at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.orderId, table.id] })],
);

/** Numbers the commands of a group: its row lock makes the numbers follow the order of commits. */
export const orderGroups = pgTable(
  "order_groups",
  {
    tenantId: uuid("tenant_id").notNull(),
    groupId: text("group_id").notNull(),
    nextPosition: bigint("next_position", { mode: "number" }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.groupId] })],
);

/**
 * The FIFO queue. The `waiting` command with the lowest position is the first of its group; the
 * lock of its row is the lock of the group. `due_at`: when the sweeper takes it, whatever became of
 * its announcement; after a failure, when it is retried.
 */
export const orderCommands = pgTable(
  "order_commands",
  {
    tenantId: uuid("tenant_id").notNull(),
    groupId: text("group_id").notNull(),
    position: bigint({ mode: "number" }).notNull(),
    /** The `messageId` that the client was given. */
    id: uuid().notNull(),
    orderId: uuid("order_id").notNull(),
    kind: text({ enum: ["create", "status", "cancel"] }).notNull(),
    toStatus: text("to_status", { enum: STATUSES }).notNull(),
    requestedBy: text("requested_by").notNull(),
    state: text({ enum: ["waiting", "done", "dead"] }).notNull(),
    outcome: text({ enum: ["applied", "refused", "purged"] }),
    attempts: integer().notNull().default(0),
    lastError: text("last_error"),
    createdAt: instant("created_at").notNull(),
    dueAt: instant("due_at").notNull(),
    finishedAt: instant("finished_at"),
    finishedBy: text("finished_by"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.groupId, table.position] }),
    index("order_commands_waiting")
      .on(table.tenantId, table.groupId, table.position)
      .where(sql`state = 'waiting'`),
    index("order_commands_due").on(table.dueAt).where(sql`state = 'waiting'`),
    index("order_commands_dead").on(table.tenantId, table.id).where(sql`state = 'dead'`),
    index("order_commands_finished").on(table.finishedAt).where(sql`state = 'done'`),
  ],
);

/**
 * A client's `deduplicationId` and the order that it made. `owner` is the customer, or empty for
 * the shop's own ids.
 */
export const orderDeduplications = pgTable(
  "order_deduplications",
  {
    tenantId: uuid("tenant_id").notNull(),
    owner: text().notNull(),
    deduplicationId: text("deduplication_id").notNull(),
    orderId: uuid("order_id").notNull(),
    messageId: uuid("message_id").notNull(),
    expiresAt: instant("expires_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.owner, table.deduplicationId] }),
    index("order_deduplications_expiry").on(table.expiresAt),
  ],
);

/**
 * Heartbeats of the worker processes; they serve every tenant. `in_flight`: commands under way, by
 * tenant.
 */
export const workers = pgTable("workers", {
  name: text().primaryKey(),
  startedAt: instant("started_at").notNull(),
  seenAt: instant("seen_at").notNull(),
  inFlight: jsonb("in_flight").notNull(),
});
