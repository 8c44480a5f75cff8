import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { pruneAll } from "../../db/prune.ts";
import { pruneAudit, selectAudit } from "./repository.ts";

export type AuditService = ReturnType<typeof createAuditService>;

/** Reading the audit log; entries are written by the features, see recordAudit. */
export function createAuditService({ db, retentionDays }: { db: Database; retentionDays: number }) {
  return {
    async listAudit({ tenantId }: RequestContext, { limit, cursor }: { limit: number; cursor?: string }) {
      const [before = null] = cursor ? decodeCursor("audit", cursor, 1) : [];
      if (before !== null && !isUuid(before)) throw new AppError("invalid_input", "The cursor is not valid.");
      const rows = await selectAudit(db.read, tenantId, before, limit + 1);
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map(({ at, ...row }) => ({ ...row, at: at.toISOString() })),
        nextCursor: last ? encodeCursor("audit", [last.id]) : null,
      };
    },

    /** One round of housekeeping; returns how many entries went. */
    prune: (): Promise<number> => pruneAll((limit) => pruneAudit(db.write, retentionDays, limit)),
  };
}
