export { createSessionLinks, type SessionLinks } from "./link-session.ts";
export {
  changeTimeZone,
  type DayRange,
  rebuildTenant,
  type TenantZone,
  type VerifyReport,
  verifyTenant,
} from "./recount.ts";
export { selectBacklog as readBacklog } from "./repository.ts";
export { createReturnsFolder, type ReturnsFolder } from "./returns.ts";
export { createRollupService, type RollupService } from "./service.ts";
