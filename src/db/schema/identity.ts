import { sql } from "drizzle-orm";
import {
  boolean,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core";
import type { ExchangeRate } from "../../core/exchange-rates.ts";

const createdAt = () => timestamp("created_at", { withTimezone: true, precision: 3 }).notNull().defaultNow();

// Global tables: what must be unique across tenants is here, small enough to be copied to every
// shard.

export const tenants = pgTable("tenants", {
  id: uuid().primaryKey(),
  slug: text().notNull().unique(),
  name: text().notNull(),
  timeZone: text("time_zone").notNull().default("UTC"),
  currency: text().notNull().default("EUR"),
  eventRetentionDays: integer("event_retention_days"),
  lowStockThreshold: integer("low_stock_threshold").notNull().default(5),
  /** Whether customers and publishable keys may send sales. */
  trustedSales: boolean("trusted_sales").notNull().default(false),
  exchangeRates: jsonb("exchange_rates").$type<ExchangeRate[]>().notNull().default([]),
  breakdownProperties: text("breakdown_properties")
    .array()
    .notNull()
    .default(sql`'{country,device,browser,os,referrer,utm_source,utm_medium,utm_campaign}'`),
  /**
   * Goes up with every property that is added. A roll-up under an older version does not count that
   * property.
   */
  propertiesVersion: integer("properties_version").notNull().default(0),
  createdAt: createdAt(),
});

export const users = pgTable("users", {
  id: uuid().primaryKey(),
  email: text().notNull().unique(),
  passwordHash: text("password_hash").notNull(),
  name: text(),
  /** Counts how often all sessions were ended: a token of another count is refused. */
  sessionVersion: integer("session_version").notNull().default(0),
  createdAt: createdAt(),
});

export const memberships = pgTable(
  "memberships",
  {
    tenantId: uuid("tenant_id")
      .notNull()
      .references(() => tenants.id),
    userId: uuid("user_id")
      .notNull()
      .references(() => users.id),
    role: text({ enum: ["admin", "seller", "analyst", "customer"] }).notNull(),
    sellerId: text("seller_id"),
    createdAt: createdAt(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.userId] }),
    index("memberships_user").on(table.userId),
  ],
);

export const apiKeys = pgTable(
  "api_keys",
  {
    tenantId: uuid("tenant_id")
      .notNull()
      .references(() => tenants.id),
    id: uuid().notNull(),
    name: text().notNull(),
    kind: text({ enum: ["secret", "publishable"] }).notNull(),
    prefix: text().notNull(),
    keyHash: text("key_hash").notNull().unique(),
    scopes: text().array().notNull(),
    expiresAt: timestamp("expires_at", { withTimezone: true, precision: 3 }),
    lastUsedAt: timestamp("last_used_at", { withTimezone: true, precision: 3 }),
    revokedAt: timestamp("revoked_at", { withTimezone: true, precision: 3 }),
    /** The key that took its place when it was rotated. */
    replacedBy: uuid("replaced_by"),
    createdAt: createdAt(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.id] })],
);

/** One row a refresh token ever issued. Tokens that replaced one another share a family. */
export const refreshTokens = pgTable(
  "refresh_tokens",
  {
    tokenHash: text("token_hash").primaryKey(),
    familyId: uuid("family_id").notNull(),
    userId: uuid("user_id")
      .notNull()
      .references(() => users.id),
    tenantId: uuid("tenant_id")
      .notNull()
      .references(() => tenants.id),
    expiresAt: timestamp("expires_at", { withTimezone: true, precision: 3 }).notNull(),
    usedAt: timestamp("used_at", { withTimezone: true, precision: 3 }),
    revokedAt: timestamp("revoked_at", { withTimezone: true, precision: 3 }),
    /** The user's when the token was made. */
    sessionVersion: integer("session_version").notNull().default(0),
    createdAt: createdAt(),
  },
  (table) => [
    index("refresh_tokens_family").on(table.familyId),
    index("refresh_tokens_member").on(table.tenantId, table.userId),
    // The last token of each family: the one that was not swapped for another.
    index("refresh_tokens_last").on(table.expiresAt).where(sql`used_at is null`),
  ],
);

/**
 * An offer to join a tenant, taken once by whoever holds its token. The token is a signature and is
 * stored nowhere.
 */
export const invitations = pgTable(
  "invitations",
  {
    tenantId: uuid("tenant_id")
      .notNull()
      .references(() => tenants.id),
    id: uuid().notNull(),
    email: text().notNull(),
    role: text({ enum: ["admin", "seller", "analyst", "customer"] }).notNull(),
    sellerId: text("seller_id"),
    expiresAt: timestamp("expires_at", { withTimezone: true, precision: 3 }).notNull(),
    acceptedAt: timestamp("accepted_at", { withTimezone: true, precision: 3 }),
    /** Withdrawn, superseded, or void since the invited or the inviting person lost the right. */
    revokedAt: timestamp("revoked_at", { withTimezone: true, precision: 3 }),
    /** Kind and id of the principal, e.g. `user:<id>`; null in rows older than the column. */
    invitedBy: text("invited_by"),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.id] }),
    index("invitations_email").on(table.tenantId, table.email),
    index("invitations_expiry").on(table.expiresAt),
  ],
);

/** A link that sets a new password, once. `tenant_id`: the admin who made it is of this tenant. */
export const passwordResets = pgTable(
  "password_resets",
  {
    tokenHash: text("token_hash").primaryKey(),
    userId: uuid("user_id")
      .notNull()
      .references(() => users.id),
    tenantId: uuid("tenant_id"),
    expiresAt: timestamp("expires_at", { withTimezone: true, precision: 3 }).notNull(),
  },
  (table) => [
    index("password_resets_user").on(table.userId),
    index("password_resets_expiry").on(table.expiresAt),
  ],
);

/** Wrong passwords by e-mail address, and by that and the client's address, both as a hash. */
export const signInDelays = pgTable(
  "sign_in_delays",
  {
    subject: text().primaryKey(),
    failures: integer().notNull(),
    lastAt: timestamp("last_at", { withTimezone: true, precision: 3 }).notNull(),
    /** When the next attempt is due. */
    nextAt: timestamp("next_at", { withTimezone: true, precision: 3 }).notNull(),
  },
  (table) => [index("sign_in_delays_last").on(table.lastAt)],
);
