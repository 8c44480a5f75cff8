export { type AuditEntry, recordAudit } from "./repository.ts";
export { type AuditService, createAuditService } from "./service.ts";
