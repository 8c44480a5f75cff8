import { csvLine } from "../../core/csv.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { readPages } from "../../db/pages.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import { COLUMNS } from "./columns.ts";
import { type StoredRowError, selectErrorPage } from "./imports-repository.ts";
import type { StoredProduct } from "./plan-batch.ts";
import { selectForExport } from "./products-repository.ts";
import type { ExportQuery } from "./schema.ts";
import { visibleSeller } from "./visible-seller.ts";

export interface ExportDeps {
  sql: Sql;
  readGuard: Pick<ReadGuard, "run" | "runPatiently">;
}

/**
 * The tenant's live products as CSV text, a page at a time, in the order in which they were made.
 */
export async function* exportProducts(
  { sql, readGuard }: ExportDeps,
  ctx: RequestContext,
  filters: ExportQuery,
): AsyncGenerator<string, void, undefined> {
  const own = visibleSeller(ctx);
  let head = csvLine(COLUMNS);
  // Nobody has both sellers.
  if (own !== null && filters.sellerId !== undefined && filters.sellerId !== own) return yield head;
  const { status, category } = filters;
  const sellerId = own ?? filters.sellerId ?? null;
  const pages = readPages<StoredProduct>((last, size) => {
    const after = last && { createdAt: last.createdAt.toISOString(), id: last.id };
    const read = () => selectForExport(sql, ctx.tenantId, { after, sellerId, status, category }, size);
    return last ? readGuard.runPatiently(read, ctx) : readGuard.run(read, ctx);
  });
  for await (const page of pages) {
    yield head + page.map((product) => csvLine(COLUMNS.map((column) => product[column]))).join("");
    head = "";
  }
}

/** The refused rows of an import as CSV text. */
export async function* exportErrors(
  { sql, readGuard }: ExportDeps,
  ctx: RequestContext,
  importId: string,
): AsyncGenerator<string, void, undefined> {
  let head = csvLine(["line", "path", "message"]);
  const pages = readPages<StoredRowError>((after, size) => {
    const read = () => selectErrorPage(sql, ctx.tenantId, importId, after, size);
    return after ? readGuard.runPatiently(read, ctx) : readGuard.run(read, ctx);
  });
  for await (const page of pages) {
    yield head + page.map((row) => csvLine([row.line, row.path, row.message])).join("");
    head = "";
  }
}
