import { pgTable, text, timestamp } from "drizzle-orm/pg-core";

/** Who runs a periodic job: one holder at a time, until the lease runs out. */
export const leases = pgTable("leases", {
  name: text().primaryKey(),
  holder: text().notNull(),
  expiresAt: timestamp("expires_at", { withTimezone: true, precision: 3 }).notNull(),
});
