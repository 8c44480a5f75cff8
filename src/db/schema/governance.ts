import { index, integer, jsonb, pgTable, primaryKey, text, timestamp, uuid } from "drizzle-orm/pg-core";

const instant = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

/**
 * Who changed what, with which request; written in the statement or transaction of the change
 * itself.
 */
export const auditLog = pgTable(
  "audit_log",
  {
    tenantId: uuid("tenant_id").notNull(),
    id: uuid().notNull(),
    at: instant("at").notNull().defaultNow(),
    actorKind: text("actor_kind", { enum: ["user", "apiKey", "operator"] }).notNull(),
    actorId: text("actor_id").notNull(),
    action: text().notNull(),
    target: text().notNull(),
    before: jsonb(),
    after: jsonb(),
    requestId: text("request_id").notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.id] })],
);

/**
 * An Idempotency-Key and the answer of its one effect; written in the transaction of the effect.
 */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    tenantId: uuid("tenant_id").notNull(),
    principal: text().notNull(),
    key: text().notNull(),
    fingerprint: text().notNull(),
    status: integer().notNull(),
    body: jsonb(),
    expiresAt: instant("expires_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.principal, table.key] }),
    index("idempotency_keys_expiry").on(table.expiresAt),
  ],
);
