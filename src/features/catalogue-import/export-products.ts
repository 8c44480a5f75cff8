import { csvLine } from "../../core/csv.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { COLUMNS } from "./columns.ts";
import { selectErrors } from "./imports-repository.ts";
import type { StoredProduct } from "./plan-batch.ts";
import { selectForExport } from "./products-repository.ts";
import type { ExportQuery } from "./schema.ts";
import { visibleSeller } from "./visible-seller.ts";

const PAGE_ROWS = 1_000;

/** The tenant's live products as CSV text, a page at a time, in the order in which they were made. */
export async function* exportProducts(
  sql: Sql,
  ctx: RequestContext,
  filters: ExportQuery,
): AsyncGenerator<string, void, undefined> {
  const own = visibleSeller(ctx);
  let head = csvLine(COLUMNS);
  // Nobody has both sellers.
  if (own !== null && filters.sellerId !== undefined && filters.sellerId !== own) return yield head;
  const { status, category } = filters;
  const sellerId = own ?? filters.sellerId ?? null;
  let after: { createdAt: string; id: string } | null = null;
  do {
    const page: StoredProduct[] = await selectForExport(sql, ctx.tenantId, {
      after,
      limit: PAGE_ROWS,
      sellerId,
      status,
      category,
    });
    yield head + page.map((product) => csvLine(COLUMNS.map((column) => product[column]))).join("");
    head = "";
    const last = page.at(-1);
    after =
      last && page.length === PAGE_ROWS ? { createdAt: last.createdAt.toISOString(), id: last.id } : null;
  } while (after !== null);
}

/** The refused rows of an import as CSV text. */
export async function* exportErrors(
  sql: Sql,
  tenantId: string,
  importId: string,
): AsyncGenerator<string, void, undefined> {
  let head = csvLine(["line", "path", "message"]);
  let after: { line: number; path: string } | null = null;
  do {
    const page = await selectErrors(sql, tenantId, importId, { after, limit: PAGE_ROWS });
    yield head + page.map((row) => csvLine([row.line, row.path, row.message])).join("");
    head = "";
    after = page.length === PAGE_ROWS ? (page.at(-1) ?? null) : null;
  } while (after !== null);
}
