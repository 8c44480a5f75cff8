export type { DomainHandler } from "./handle-waiting.ts";
export { claimFor, type EventRef, insertDomainEvents, insertFrom, listOf } from "./repository.ts";
export { createOutboxService, type OutboxService } from "./service.ts";
