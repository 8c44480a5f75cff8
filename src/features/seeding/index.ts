export { generateEvents, type SeedEvent, type SeedOptions } from "./generate-events.ts";
export { hasEvents } from "./repository.ts";
export { createSeedRun, type SeedRun } from "./seed-tenant.ts";
