export { type AnalyticsService, createAnalyticsService } from "./service.ts";
export type { SummaryEvent } from "./summary-stream.ts";
