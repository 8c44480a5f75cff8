import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { pruneAll } from "../../db/prune.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { Log } from "../../telemetry/log.ts";
import { exportErrors, exportProducts } from "./export-products.ts";
import {
  type ImportReport,
  pruneImports,
  selectErrors,
  selectImport,
  selectImports,
} from "./imports-repository.ts";
import { createReceiveImport } from "./receive-import.ts";
import type { ExportQuery } from "./schema.ts";
import { visibleSeller } from "./visible-seller.ts";

export interface CatalogueImportDeps {
  db: Database;
  readGuard: Pick<ReadGuard, "run" | "runPatiently">;
  log: Log;
}

export type CatalogueImportService = ReturnType<typeof createCatalogueImportService>;

const MAX_REPORTED = 100;
/** Reports are kept for so long after the end. */
const REPORT_DAYS = 90;
const DAY_MS = 86_400_000;
const PRUNE_AT_ONCE = 20;

/**
 * Import and export of products as CSV, as the API sees it. A worker does the work itself, see
 * run-import.ts.
 */
export function createCatalogueImportService({ db, readGuard, log }: CatalogueImportDeps) {
  const exports = { sql: db.read, readGuard };
  const receive = createReceiveImport(db.write, log);

  async function findImport(ctx: RequestContext, id: string): Promise<ImportReport> {
    const found = isUuid(id) ? await selectImport(db.read, ctx.tenantId, id, visibleSeller(ctx)) : null;
    if (!found) throw new AppError("not_found", "There is no such import.");
    return found;
  }

  return {
    /**
     * Resolves when the file is committed. Throws `invalid_input`, `malformed_body`, `conflict`,
     * `forbidden`.
     */
    async receiveImport(ctx: RequestContext, file: AsyncIterable<Uint8Array>): Promise<{ importId: string }> {
      const sellerId = visibleSeller(ctx);
      if (sellerId === "")
        throw new AppError("forbidden", "This seller has no seller id yet; an admin can set it.");
      return receive({ ...ctx, sellerId }, file);
    },

    async listImports(ctx: RequestContext, { limit, cursor }: { limit: number; cursor?: string }) {
      const sellerId = visibleSeller(ctx);
      const filters = ["imports", sellerId];
      const [before = null] = cursor ? decodeCursor(filters, cursor, 1) : [];
      if (before !== null && !isUuid(before)) throw new AppError("invalid_input", "The cursor is not valid.");
      const rows = await selectImports(db.read, ctx.tenantId, { before, limit: limit + 1, sellerId });
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map(shown),
        nextCursor: last ? encodeCursor(filters, [last.id]) : null,
      };
    },

    /** Throws `not_found`. */
    async getImport(ctx: RequestContext, id: string) {
      const report = await findImport(ctx, id);
      const errors = await selectErrors(db.read, ctx.tenantId, id, MAX_REPORTED);
      return { ...shown(report), errors };
    },

    /** The refused rows as CSV text, a page at a time. Throws `not_found` before the first. */
    async *exportErrors(ctx: RequestContext, id: string): AsyncGenerator<string, void, undefined> {
      await findImport(ctx, id);
      yield* exportErrors(exports, ctx, id);
    },

    exportProducts: (ctx: RequestContext, filters: ExportQuery): AsyncIterable<string> =>
      exportProducts(exports, ctx, filters),

    /** One round of housekeeping: broken uploads and old reports. Returns how many imports went. */
    prune: (): Promise<number> => pruneAll(() => pruneImports(db.write, REPORT_DAYS * DAY_MS, PRUNE_AT_ONCE)),
  };
}

function shown({ createdAt, finishedAt, ...rest }: ImportReport) {
  return { ...rest, createdAt: createdAt.toISOString(), finishedAt: finishedAt?.toISOString() ?? null };
}
