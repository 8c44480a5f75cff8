import { z } from "@hono/zod-openapi";
import { isDay, isTimeZone, TIME_ZONE_NAMES, TIME_ZONE_RULE } from "../../core/days.ts";
import { isStorable } from "../../core/validation.ts";
import { Flag, PageQuery, SortDirection, withDefault } from "../../http/responses.ts";

/** Three years: beyond, a question is cheaper asked in parts. */
export const MAX_RANGE_DAYS = 1_100;

export const Day = z
  .string()
  .refine(isDay, "must be a day, YYYY-MM-DD, such as 2026-11-21")
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
  skipCache: Flag.optional().openapi({ description: "Compute afresh; for admins, analysts and keys" }),
};

export const GRANULARITIES = ["hour", "day", "week", "month"] as const;
export type Granularity = (typeof GRANULARITIES)[number];
export const GranularityName = z.enum(GRANULARITIES).openapi("Granularity");

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

/** Names of measures that every row carries. */
export const MEASURE_NAMES = [
  "views",
  "clicks",
  "addToCarts",
  "removeFromCarts",
  "checkoutStarts",
  "purchases",
  "units",
  "revenue",
  "conversionRate",
] as const;

/** Quotients of two measures, which are no sums. */
export const RATES = ["conversionRate", "purchaseRate"] as const;

export const METRICS = [
  "events",
  ...MEASURE_NAMES,
  ...["uniqueUsers", "buyers", "purchaseRate", "sessions", "activeDays"],
] as const;
export type Metric = (typeof METRICS)[number];
const MetricName = z.enum(METRICS).openapi("Metric");

export const DIMENSIONS = [...GRANULARITIES, "type", "product", "property", "user"] as const;
export type Dimension = (typeof DIMENSIONS)[number];
const DimensionName = z.enum(DIMENSIONS).openapi("Dimension");

export const FILTERS = ["type", "productId", "value", "userId"] as const;
export type FilterName = (typeof FILTERS)[number];

const limit = z.coerce.number().int().min(1).max(50).default(10);

export const RangeQuery = z.strictObject(rangeFields);
export type RangeQuery = z.infer<typeof RangeQuery>;

export const TopQuery = z.strictObject({ ...rangeFields, limit, sortBy: z.enum(SORTABLE).default("views") });
export type TopQuery = z.infer<typeof TopQuery>;

const seriesFields = {
  ...rangeFields,
  groupBy: withDefault(GranularityName, "day"),
  timeZone: z
    .string()
    .max(64)
    .refine(isTimeZone, TIME_ZONE_NAMES)
    .openapi({ description: TIME_ZONE_RULE, example: "Europe/Berlin" })
    .optional(),
};

export const SummaryQuery = z.strictObject({
  ...seriesFields,
  compare: z
    .enum(["previous"])
    .optional()
    .openapi({ description: "Beside it, the totals of the equally long period directly before" }),
});
export type SummaryQuery = z.infer<typeof SummaryQuery>;

/** Each read of a stream would be computed afresh. A stream is told of changes anyway. */
export const SummaryStreamQuery = SummaryQuery.omit({ skipCache: true });
export type SummaryStreamQuery = z.infer<typeof SummaryStreamQuery>;

const { limit: pageLimit, cursor } = PageQuery.shape;

export const SummaryPageQuery = z.strictObject({ ...seriesFields, limit: pageLimit, cursor });
export type SummaryPageQuery = z.infer<typeof SummaryPageQuery>;

/**
 * Far beyond any catalogue that people page by hand. A cursor goes deeper without counting rows.
 */
const MAX_PAGE = 10_000;

export const ProductStatsQuery = z.strictObject({
  ...rangeFields,
  search: z
    .string()
    .min(1)
    .max(100)
    .refine(isStorable, "holds a character that can't be stored")
    .optional()
    .openapi({ description: "Part of the name, id or sku; the case of letters does not count" }),
  sortBy: z.enum(["name", "events", ...MEASURE_NAMES]).default("views"),
  sortDir: withDefault(SortDirection, "desc"),
  limit: pageLimit,
  page: z.coerce.number().int().min(1).max(MAX_PAGE).optional(),
  cursor: cursor.openapi({ description: "Instead of page: goes on where the last page ended" }),
});
export type ProductStatsQuery = z.infer<typeof ProductStatsQuery>;

const EVENT_TYPE = /^[a-z0-9_.:-]{1,64}$/;
const MAX_WINDOW_HOURS = 720;

export const FunnelQuery = z.strictObject({
  ...rangeFields,
  steps: z
    .string()
    .max(600)
    .default("view,add_to_cart,checkout_start,purchase")
    .refine((text) => {
      const steps = text.split(",");
      return steps.length >= 2 && steps.length <= 8 && steps.every((step) => EVENT_TYPE.test(step));
    }, "must be 2 to 8 event types, separated by commas")
    .openapi({ description: "2 to 8 event types in order, separated by commas", example: "view,purchase" }),
  windowHours: z.coerce
    .number()
    .int()
    .min(1)
    .max(MAX_WINDOW_HOURS)
    .default(168)
    .openapi({ description: "All steps within so many hours of the first" }),
});
export type FunnelQuery = z.infer<typeof FunnelQuery>;

export const PERIODS = ["day", "week", "month"] as const;
export type Period = (typeof PERIODS)[number];
export const PeriodName = z.enum(PERIODS).openapi("Period");

export const RetentionQuery = z.strictObject({ ...rangeFields, period: withDefault(PeriodName, "week") });
export type RetentionQuery = z.infer<typeof RetentionQuery>;

export const RealtimeQuery = z.strictObject({ skipCache: rangeFields.skipCache });
export type RealtimeQuery = z.infer<typeof RealtimeQuery>;

const filter = z
  .array(z.string().min(1).max(256).refine(isStorable, "holds a character that can't be stored"))
  .min(1)
  .max(50);

export const MetricsQueryBody = z
  .strictObject({
    metrics: z.array(MetricName).min(1).max(METRICS.length),
    dimensions: z
      .array(DimensionName)
      .max(2)
      .default([])
      .openapi({ description: "At most one of hour, day, week and month" }),
    property: z
      .string()
      .min(1)
      .max(100)
      .refine(isStorable, "holds a character that can't be stored")
      .optional()
      .openapi({ description: "Whose values the dimension `property` and the filter `value` mean" }),
    filters: z
      .strictObject({
        type: filter.optional(),
        productId: filter.optional(),
        value: filter.optional(),
        userId: filter.optional(),
      })
      .default({}),
    days: z.int().min(1).max(MAX_RANGE_DAYS).optional(),
    startDate: Day.optional(),
    endDate: Day.optional(),
    timeZone: seriesFields.timeZone,
    sort: z
      .strictObject({ by: z.enum([...METRICS, ...DIMENSIONS]), direction: SortDirection })
      .optional()
      .openapi({
        description: "By default by time, the newest first, or else by the first metric, the largest first",
      }),
    limit: z.int().min(1).max(1_000).default(100),
    cursor: cursor.openapi({
      description: "The `nextCursor` of an answer to the same question: goes on where that one ended",
    }),
    skipCache: z.boolean().default(false),
  })
  .openapi("MetricsQuery", {
    example: {
      metrics: ["revenue", "purchases"],
      dimensions: ["week", "product"],
      filters: { productId: ["tea-100", "tea-200"] },
      startDate: "2026-10-01",
      endDate: "2026-11-21",
      sort: { by: "revenue", direction: "desc" },
      limit: 50,
    },
  });
export type MetricsQueryBody = z.infer<typeof MetricsQueryBody>;

export const BreakdownQuery = z.strictObject({
  ...rangeFields,
  property: z.string().min(1).max(100).refine(isStorable, "holds a character that can't be stored"),
  limit,
  cursor,
  sortBy: z.enum(["events", ...SORTABLE]).default("events"),
});
export type BreakdownQuery = z.infer<typeof BreakdownQuery>;
