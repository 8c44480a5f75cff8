import { z } from "@hono/zod-openapi";
import { Instant } from "../../http/responses.ts";
import { Day, GranularityName, MEASURE_NAMES, PeriodName } from "./schema.ts";

const count = z.number().int();

export const Measures = z
  .object({
    views: count,
    clicks: count,
    addToCarts: count,
    removeFromCarts: count,
    checkoutStarts: count,
    purchases: count.openapi({
      description:
        "Sales by product: events, purchases and lines of orders; not less by refunds and cancellations",
    }),
    units: count.openapi({ description: "Sold less refunded; adjustments count none" }),
    revenue: z
      .number()
      .openapi({ description: "Sold less refunded, and adjustments, in the tenant's currency" }),
    conversionRate: z.number().openapi({
      description:
        "purchases / views, both counted as events; 0 when there are no views. Over 1 where more was sold than viewed, which `notes` then says",
    }),
  })
  .openapi("Measures");
export type Measures = z.infer<typeof Measures>;

export const Meta = z
  .object({
    from: Day,
    to: Day,
    timeZone: z.string(),
    asOf: Instant.openapi({ description: "When the answer was computed" }),
    lagMs: count.openapi({
      description: "Age of the oldest event that was not counted yet, 0 when all were",
    }),
    cache: z.enum(["hit", "miss", "stale"]),
    degraded: z.boolean(),
    granularity: GranularityName,
    requestedGranularity: GranularityName.optional(),
    reason: z.string().optional(),
  })
  .openapi("AnalyticsMeta");
export type Meta = z.infer<typeof Meta>;

export const NOTE_CODES = ["conversion_over_one", "property_filling"] as const;

const Note = z
  .object({
    code: z.enum(NOTE_CODES).openapi({ description: "What clients branch on" }),
    message: z.string(),
  })
  .openapi("AnalyticsNote");

/** What may stand beside the content of any answer. */
const noted = {
  notes: z
    .array(Note)
    .optional()
    .openapi({ description: "What to know of the numbers; absent when there is nothing to say" }),
  meta: Meta,
};

const text = z.string().nullable();
const truncated = z.boolean().openapi({ description: "Whether there is more than is shown" });
const pageEnd = {
  truncated,
  nextCursor: text.openapi({ description: "Ask the same with it for what comes next; null at the end" }),
};

export const TopProducts = z
  .object({
    items: z.array(Measures.extend({ productId: z.string(), name: text })),
    truncated: truncated.openapi({
      description: "Whether more products have events in the range; GET /analytics/products/stats pages all",
    }),
    ...noted,
  })
  .openapi("TopProducts");

export const ProductTimeseries = z
  .object({ productId: z.string(), points: z.array(Measures.extend({ day: Day })), ...noted })
  .openapi("ProductTimeseries");

export const UserSummary = z
  .object({
    userId: z.string(),
    totals: Measures.extend({ events: count, spend: z.number(), activeDays: count }),
    ...noted,
  })
  .openapi("UserSummary");

const USER_DESCRIPTIONS = {
  uniqueUsers: "Each by the userId, else the anonymousId, else the sessionId",
  buyers: "Unique users with a purchase",
  purchaseRate: "buyers / uniqueUsers, 0 when there are no users; never over 1",
};
const Totals = Measures.extend({
  events: count,
  uniqueUsers: count.openapi({ description: USER_DESCRIPTIONS.uniqueUsers }),
  buyers: count.openapi({ description: USER_DESCRIPTIONS.buyers }),
  purchaseRate: z.number().openapi({ description: USER_DESCRIPTIONS.purchaseRate }),
  sessions: count,
}).openapi("SummaryTotals");
export type Totals = z.infer<typeof Totals>;

const UNKNOWN = "null by hour, and on another clock than the tenant's: users are kept by the tenant's days";
const Bucket = Measures.extend({
  bucket: z.string().openapi({ description: "Start: an instant for hours, else the first day" }),
  events: count,
  uniqueUsers: count.nullable().openapi({ description: `${USER_DESCRIPTIONS.uniqueUsers}. ${UNKNOWN}` }),
  buyers: count.nullable().openapi({ description: `${USER_DESCRIPTIONS.buyers}. ${UNKNOWN}` }),
  purchaseRate: z
    .number()
    .nullable()
    .openapi({ description: `${USER_DESCRIPTIONS.purchaseRate}. ${UNKNOWN}` }),
}).openapi("SummaryBucket");

const Change = z
  .object({
    absolute: z.number(),
    percent: z.number().nullable().openapi({ description: "null when there was nothing before" }),
  })
  .openapi("Change");
export type Change = z.infer<typeof Change>;

export const TOTAL_NAMES = [
  "events",
  ...["uniqueUsers", "buyers", "purchaseRate", "sessions"],
  ...MEASURE_NAMES,
] as const;

export const Summary = z
  .object({
    totals: Totals,
    byType: z.array(z.object({ type: z.string(), events: count })),
    series: z.array(Bucket),
    previous: z
      .object({
        from: Day,
        to: Day,
        totals: Totals,
        change: z.object(
          Object.fromEntries(TOTAL_NAMES.map((name) => [name, Change])) as Record<
            (typeof TOTAL_NAMES)[number],
            typeof Change
          >,
        ),
      })
      .optional(),
    ...noted,
  })
  .openapi("Summary");

/** Without what moves with every look. */
export type SummaryContent = Omit<z.infer<typeof Summary>, "meta">;

export const SummaryPage = z
  .object({ items: z.array(Bucket), nextCursor: z.string().nullable(), ...noted })
  .openapi("SummaryPage");

export const ProductStats = z
  .object({
    page: count.nullable().openapi({ description: "null for a page by cursor" }),
    limit: count,
    total: count,
    items: z.array(
      Measures.extend({
        productId: z.string(),
        name: text,
        sku: text,
        price: z.number().nullable(),
        status: z
          .enum(["active", "inactive", "deleted", "unknown"])
          .openapi({ description: "unknown: events name it, the catalogue does not" }),
        events: count,
      }),
    ),
    nextCursor: text,
    ...noted,
  })
  .openapi("ProductStats");

export const Funnel = z
  .object({
    steps: z.array(
      z.object({
        type: z.string(),
        users: count,
        rate: z.number().openapi({ description: "Share of the users of the first step" }),
        dropOff: z.number().openapi({ description: "Share of the users of the step before who are missing" }),
      }),
    ),
    windowHours: count,
    ...noted,
  })
  .openapi("Funnel");

export const Retention = z
  .object({
    period: PeriodName,
    cohorts: z.array(
      z.object({
        cohort: Day.openapi({ description: "First day of the period in which these users first came" }),
        users: count,
        periods: z.array(z.object({ offset: count, users: count, rate: z.number() })).openapi({
          description: "Who came again so many periods later; the last one may still be going on",
        }),
      }),
    ),
    ...noted,
  })
  .openapi("Retention");

export const Realtime = z
  .object({
    activeUsers: count,
    events: count,
    minutes: z.array(z.object({ minute: Instant, events: count, activeUsers: count })),
    topProducts: z.array(
      z.object({ productId: z.string(), name: text, events: count, views: count, purchases: count }),
    ),
    topProductsTruncated: z
      .boolean()
      .openapi({ description: "Whether more products have events now than the ten that are shown" }),
    ...noted,
  })
  .openapi("Realtime");

export const MetricsAnswer = z
  .object({
    rows: z.array(z.record(z.string(), z.union([z.string(), z.number()]))).openapi({
      description: "One key a dimension and metric; what has no events has no row",
    }),
    ...pageEnd,
    ...noted,
  })
  .openapi("MetricsAnswer");

export const Breakdown = z
  .object({ items: z.array(Measures.extend({ value: z.string(), events: count })), ...pageEnd, ...noted })
  .openapi("Breakdown");

export const EventProperties = z
  .object({
    sampled: z
      .object({
        events: count.openapi({ description: "How many events were looked at" }),
        limit: count,
        from: Instant.nullable(),
        to: Instant.nullable(),
      })
      .openapi({
        description: "The newest events, at most so many; their times. Of others nothing is known here",
      }),
    items: z.array(
      z.object({
        name: z.string().openapi({ example: "plan" }),
        types: z
          .array(z.enum(["string", "number", "boolean", "object", "array"]))
          .openapi({ description: "Of its values; objects and arrays count in no breakdown" }),
        seen: count.openapi({ description: "Events of the sample that carry it" }),
        share: z.number().openapi({ description: "seen / sampled events" }),
        topValues: z
          .array(z.object({ value: z.string(), events: count }))
          .openapi({ description: "The five most frequent, by their first 256 characters" }),
        chosen: z.boolean().openapi({ description: "Whether breakdowns know it" }),
      }),
    ),
    truncated,
  })
  .openapi("EventProperties");
