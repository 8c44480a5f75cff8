export { claimFor, type EventRef, insertDomainEvents, insertFrom } from "./repository.ts";
