export { type AnalyticsService, createAnalyticsService } from "./service.ts";
