import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  date,
  index,
  integer,
  numeric,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core";

const count = (name: string) => bigint(name, { mode: "number" }).notNull().default(0);
const amount = (name: string) => numeric(name).notNull().default("0");
const tenantId = () => uuid("tenant_id").notNull();
/** Whether `daily_return_stats` counts the row. */
const folded = () => boolean().notNull().default(false);

const measures = () => ({
  events: count("events"),
  views: count("views"),
  clicks: count("clicks"),
  addToCarts: count("add_to_carts"),
  removeFromCarts: count("remove_from_carts"),
  checkoutStarts: count("checkout_starts"),
  purchases: count("purchases"),
  units: count("units"),
  revenue: amount("revenue"),
});

// Days and hours are those of the tenant's time zone. No row is all zeros, so a recount equals the
// table row by row.

export const productDailyStats = pgTable(
  "product_daily_stats",
  { tenantId: tenantId(), day: date().notNull(), productId: text("product_id").notNull(), ...measures() },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.day, table.productId] }),
    index("product_daily_stats_product").on(table.tenantId, table.productId, table.day),
  ],
);

/**
 * The same by `period`, a month or a sixth of one (see features/rollups/definitions.ts), from its
 * first day.
 */
export const productPeriodStats = pgTable(
  "product_period_stats",
  {
    tenantId: tenantId(),
    period: text().notNull(),
    start: date().notNull(),
    productId: text("product_id").notNull(),
    ...measures(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.period, table.start, table.productId] })],
);

/**
 * `user_key` is the user id, else the anonymous id, else the session id: one row a unique user and
 * day.
 */
export const userDailyStats = pgTable(
  "user_daily_stats",
  {
    tenantId: tenantId(),
    day: date().notNull(),
    userKey: text("user_key").notNull(),
    ...measures(),
    folded: folded(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.day, table.userKey] }),
    index("user_daily_stats_user").on(table.tenantId, table.userKey, table.day),
    index("user_daily_stats_unfolded").on(table.tenantId, table.day, table.userKey).where(sql`not folded`),
  ],
);

/** The same of users with purchases: exact counts of buyers over any range of days. */
export const buyerDailyStats = pgTable(
  "buyer_daily_stats",
  {
    tenantId: tenantId(),
    day: date().notNull(),
    userKey: text("user_key").notNull(),
    purchases: count("purchases"),
    folded: folded(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.day, table.userKey] }),
    index("buyer_daily_stats_user").on(table.tenantId, table.userKey, table.day),
    index("buyer_daily_stats_unfolded").on(table.tenantId, table.day, table.userKey).where(sql`not folded`),
  ],
);

/** One row a session and day: exact session counts over any range of days. */
export const sessionDailyStats = pgTable(
  "session_daily_stats",
  {
    tenantId: tenantId(),
    day: date().notNull(),
    sessionId: text("session_id").notNull(),
    events: count("events"),
    folded: folded(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.day, table.sessionId] }),
    index("session_daily_stats_session").on(table.tenantId, table.sessionId, table.day),
    index("session_daily_stats_unfolded")
      .on(table.tenantId, table.day, table.sessionId)
      .where(sql`not folded`),
  ],
);

/**
 * How many users (buyers, sessions) of `day` were there on `previous_day` before that and not in
 * between; '-infinity': never; 'infinity': all of the day. A member of a range is counted on its
 * first day there, the one whose previous day lies before the range.
 */
export const dailyReturnStats = pgTable(
  "daily_return_stats",
  {
    tenantId: tenantId(),
    subject: text().notNull(),
    day: date().notNull(),
    previousDay: date("previous_day").notNull(),
    members: count("members"),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.subject, table.day, table.previousDay] })],
);

/**
 * By type and hour. An hour starts where the tenant's clock strikes it, which is :30 UTC in
 * Kolkata.
 */
export const eventHourlyStats = pgTable(
  "event_hourly_stats",
  {
    tenantId: tenantId(),
    hour: timestamp({ withTimezone: true, precision: 3 }).notNull(),
    type: text().notNull(),
    events: count("events"),
    units: count("units"),
    revenue: amount("revenue"),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.hour, table.type] })],
);

/** The same by day: a year of it is a twentieth of the rows. */
export const eventDailyStats = pgTable(
  "event_daily_stats",
  {
    tenantId: tenantId(),
    day: date().notNull(),
    type: text().notNull(),
    events: count("events"),
    units: count("units"),
    revenue: amount("revenue"),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.day, table.type] })],
);

/** By day and value of each property that the tenant breaks down by. */
export const propertyDailyStats = pgTable(
  "property_daily_stats",
  {
    tenantId: tenantId(),
    day: date().notNull(),
    property: text().notNull(),
    value: text().notNull(),
    ...measures(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.property, table.day, table.value] })],
);

/**
 * Properties whose rows do not count all events: `filling` with the events from before they were
 * chosen, or `clearing` after they were given up. See features/rollups/property-fills.ts.
 */
export const propertyFills = pgTable(
  "property_fills",
  {
    tenantId: tenantId(),
    property: text().notNull(),
    state: text({ enum: ["filling", "clearing"] }).notNull(),
    /** Chosen again while it is cleared. */
    wanted: boolean().notNull().default(false),
    /** Batches rolled up under it or a later one count the property by themselves. */
    version: integer().notNull().default(0),
    /** No roll-up is under way any more that knew the choice of before. */
    fenced: boolean().notNull().default(false),
    /** The event up to which it is filled, by (ts, id), and the time of the last one to fill. */
    uptoTs: timestamp("upto_ts", { withTimezone: true, precision: 3 }).notNull().default(sql`'-infinity'`),
    uptoId: uuid("upto_id").notNull().default(sql`'00000000-0000-0000-0000-000000000000'`),
    untilTs: timestamp("until_ts", { withTimezone: true, precision: 3 }).notNull().default(sql`'-infinity'`),
    /** Events visited so far, and about how many there are. */
    done: count("done"),
    total: count("total"),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.property] })],
);

/**
 * Accounting by UTC hour of receipt: received = stored + duplicates + rejected. Outlives the pruned
 * ledger.
 */
export const ingestHourlyStats = pgTable(
  "ingest_hourly_stats",
  {
    tenantId: tenantId(),
    hour: timestamp({ withTimezone: true, precision: 3 }).notNull(),
    received: count("received"),
    stored: count("stored"),
    duplicates: count("duplicates"),
    rejected: count("rejected"),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.hour] })],
);
