export { SALE_REVENUE, SALE_UNITS } from "./definitions.ts";
export { createRollupRetries, type RollupRetries } from "./failing-tenants.ts";
export { createSessionLinks, type SessionLinks } from "./link-session.ts";
export { changeTimeZone, rebuildTenant, type VerifyReport, verifyTenant } from "./recount.ts";
export { type DayRange, describeKept, type Kept, type TenantZone } from "./recount-plan.ts";
export { countDeadLetters, selectOldestWaiting as readOldestWaiting } from "./repository.ts";
export { createReturnsFolder, type ReturnsFolder } from "./returns.ts";
export { createRollupService, type RollupService } from "./service.ts";
export { createEventVoids, type EventVoids } from "./void-event.ts";
