import { z } from "@hono/zod-openapi";
import { isDay, isTimeZone } from "../../core/days.ts";
import { isStorable } from "../../core/validation.ts";
import { Instant } from "../../http/responses.ts";

/** Three years: beyond, a question is cheaper asked in parts. */
export const MAX_RANGE_DAYS = 1_100;

const Day = z
  .string()
  .refine(isDay, "must be a day, YYYY-MM-DD")
  .openapi({ type: "string", format: "date", example: "2026-11-21" });

const rangeFields = {
  days: z.coerce
    .number()
    .int()
    .min(1)
    .max(MAX_RANGE_DAYS)
    .optional()
    .openapi({ description: "The last days, today included; default 30" }),
  startDate: Day.optional(),
  endDate: Day.optional().openapi({ description: "Included" }),
  skipCache: z
    .enum(["true", "false"])
    .optional()
    .openapi({ description: "Compute afresh; for admins, analysts and keys" }),
};

export const GRANULARITIES = ["hour", "day", "week", "month"] as const;
export type Granularity = (typeof GRANULARITIES)[number];

export const SORTABLE = [
  "views",
  "clicks",
  "addToCarts",
  "checkoutStarts",
  "purchases",
  "units",
  "revenue",
  "conversionRate",
] as const;

const limit = z.coerce.number().int().min(1).max(50).default(10);

export const RangeQuery = z.strictObject(rangeFields);
export type RangeQuery = z.infer<typeof RangeQuery>;

export const TopQuery = z.strictObject({ ...rangeFields, limit, sortBy: z.enum(SORTABLE).default("views") });
export type TopQuery = z.infer<typeof TopQuery>;

export const SummaryQuery = z.strictObject({
  ...rangeFields,
  groupBy: z.enum(GRANULARITIES).default("day"),
  timeZone: z.string().max(64).refine(isTimeZone, "must be an IANA time zone").optional(),
});
export type SummaryQuery = z.infer<typeof SummaryQuery>;

export const BreakdownQuery = z.strictObject({
  ...rangeFields,
  property: z.string().min(1).max(100).refine(isStorable, "holds a character that can't be stored"),
  limit,
  sortBy: z.enum(["events", ...SORTABLE]).default("events"),
});
export type BreakdownQuery = z.infer<typeof BreakdownQuery>;

const count = z.number().int();

export const Measures = z
  .object({
    views: count,
    clicks: count,
    addToCarts: count,
    removeFromCarts: count,
    checkoutStarts: count,
    purchases: count,
    units: count.openapi({ description: "Sold less refunded" }),
    revenue: z.number().openapi({ description: "Sold less refunded, in the tenant's currency" }),
    conversionRate: z.number().openapi({ description: "purchases / views, 0 when there are no views" }),
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
    granularity: z.enum(GRANULARITIES),
    requestedGranularity: z.enum(GRANULARITIES).optional(),
    reason: z.string().optional(),
  })
  .openapi("AnalyticsMeta");
export type Meta = z.infer<typeof Meta>;

export const TopProducts = z
  .object({
    items: z.array(Measures.extend({ productId: z.string(), name: z.string().nullable() })),
    meta: Meta,
  })
  .openapi("TopProducts");

export const ProductTimeseries = z
  .object({ productId: z.string(), points: z.array(Measures.extend({ day: Day })), meta: Meta })
  .openapi("ProductTimeseries");

export const UserSummary = z
  .object({
    userId: z.string(),
    totals: Measures.extend({ events: count, spend: z.number(), activeDays: count }),
    meta: Meta,
  })
  .openapi("UserSummary");

export const Summary = z
  .object({
    totals: Measures.extend({ events: count, uniqueUsers: count, sessions: count }),
    byType: z.array(z.object({ type: z.string(), events: count })),
    series: z.array(
      Measures.extend({
        bucket: z.string().openapi({ description: "Start: an instant for hours, else the first day" }),
        events: count,
      }),
    ),
    meta: Meta,
  })
  .openapi("Summary");

export const Breakdown = z
  .object({ items: z.array(Measures.extend({ value: z.string(), events: count })), meta: Meta })
  .openapi("Breakdown");
