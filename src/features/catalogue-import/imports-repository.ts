import { DOMAIN_CONSUMERS } from "../../core/domain-events.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { type PageSize, selectWithinBytes } from "../../db/pages.ts";
import { deleteByKey, TENANT_AND_ID } from "../../db/prune.ts";
import { insertFrom } from "../outbox/index.ts";
import type { Column } from "./columns.ts";

export type ImportStatus = "queued" | "running" | "succeeded" | "failed";

export interface ImportReport {
  id: string;
  status: ImportStatus;
  /** Rows worked off so far. */
  rows: number;
  created: number;
  updated: number;
  failed: number;
  /** Size of the file, and how much of it is worked off. */
  bytes: number;
  position: number;
  /** Why the file could not be read to its end. */
  error: string | null;
  createdAt: Date;
  finishedAt: Date | null;
}

/** What a worker needs to go on with an import. */
export interface HeldImport {
  tenantId: string;
  id: string;
  sellerId: string | null;
  columns: Column[];
  bytes: number;
  position: number;
  line: number;
  failed: number;
  attempts: number;
  changedIds: string[] | null;
}

/** Pieces are this long, the last one excepted. */
export const PIECE_BYTES = 256 * 1024;

export async function insertImport(
  sql: Sql,
  tenantId: string,
  row: { id: string; sellerId: string | null; keepMs: number },
): Promise<void> {
  await sql`
    insert into product_imports (tenant_id, id, seller_id, status, created_at, held_until)
    values (${tenantId}, ${row.id}, ${row.sellerId}, 'receiving', now(), now() + ${row.keepMs} * interval '1 millisecond')`;
}

export async function countUnfinished(sql: Sql, tenantId: string): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from product_imports
    where tenant_id = ${tenantId} and status in ('receiving', 'queued', 'running')`;
  return row?.n ?? 0;
}

/**
 * False when the import is gone: housekeeping took it for abandoned. As base64: the driver's own
 * form takes twice the bytes.
 */
export async function insertPiece(
  sql: Sql,
  tenantId: string,
  piece: { importId: string; start: number; data: Buffer; keepMs: number },
): Promise<boolean> {
  const rows = await sql`
    with kept as (
      update product_imports set bytes = ${piece.start + piece.data.length},
        held_until = now() + ${piece.keepMs} * interval '1 millisecond'
      where tenant_id = ${tenantId} and id = ${piece.importId} and status = 'receiving'
      returning tenant_id, id)
    insert into product_import_chunks (tenant_id, import_id, start, data)
    select tenant_id, id, ${piece.start}::bigint, decode(${piece.data.toString("base64")}, 'base64') from kept
    returning start`;
  return rows.length > 0;
}

/** The file is complete: workers may take it. False when the import is gone. */
export async function queueImport(
  sql: Sql,
  tenantId: string,
  row: { id: string; columns: readonly Column[]; position: number; line: number },
): Promise<boolean> {
  const rows = await sql`
    update product_imports set status = 'queued', columns = ${sql.json([...row.columns])}, position = ${row.position},
      line = ${row.line}, held_until = null
    where tenant_id = ${tenantId} and id = ${row.id} and status = 'receiving'
    returning id`;
  return rows.length > 0;
}

/** Removes an import that was never received whole, and its pieces. */
export async function deleteReceiving(sql: Sql, tenantId: string, id: string): Promise<void> {
  await sql`
    with gone as (
      delete from product_imports where tenant_id = ${tenantId} and id = ${id} and status = 'receiving'
      returning tenant_id, id)
    delete from product_import_chunks c using gone where c.tenant_id = gone.tenant_id and c.import_id = gone.id`;
}

/** The piece that holds byte `position`; null when the import is done with. */
export async function selectPiece(
  sql: Sql,
  tenantId: string,
  importId: string,
  position: number,
): Promise<{ start: number; data: Buffer } | null> {
  const start = position - (position % PIECE_BYTES);
  const [row] = await sql<{ data: Buffer }[]>`
    select data from product_import_chunks
    where tenant_id = ${tenantId} and import_id = ${importId} and start = ${start}`;
  return row ? { start, data: row.data } : null;
}

/**
 * Gives the oldest waiting import to a worker, or one whose worker has let its time run out. A
 * tenant's imports run one after the other, so the later file wins.
 */
export async function claimImport(sql: Sql, holder: string, holdMs: number): Promise<HeldImport | null> {
  const [row] = await sql<HeldImport[]>`
    update product_imports i set status = 'running', held_by = ${holder}, attempts = i.attempts + 1,
      held_until = now() + ${holdMs} * interval '1 millisecond'
    from (
      select w.tenant_id, w.id from product_imports w
      where w.status in ('queued', 'running') and (w.held_until is null or w.held_until < now())
        and not exists (
          select from product_imports e
          where e.tenant_id = w.tenant_id and e.id < w.id and e.status in ('queued', 'running'))
      order by w.created_at limit 1) waiting
    where i.tenant_id = waiting.tenant_id and i.id = waiting.id
      and i.status in ('queued', 'running') and (i.held_until is null or i.held_until < now())
    returning i.tenant_id as "tenantId", i.id, i.seller_id as "sellerId", i.columns, i.bytes::float8 as bytes,
      i.position::float8 as position, i.line, i.failed, i.attempts, i.changed_ids as "changedIds"`;
  return row ?? null;
}

/**
 * For a holder that needs longer than a batch should. False when the import is another worker's by
 * now.
 */
export async function renewHold(
  sql: Sql,
  { tenantId, id }: Pick<HeldImport, "tenantId" | "id">,
  { holder, holdMs }: { holder: string; holdMs: number },
): Promise<boolean> {
  const rows = await sql`
    update product_imports set held_until = now() + ${holdMs} * interval '1 millisecond'
    where tenant_id = ${tenantId} and id = ${id} and held_by = ${holder} and status = 'running'
    returning id`;
  return rows.length > 0;
}

/**
 * Lets another worker go on at once. `counts` false: the lack of progress says nothing against the
 * import.
 */
export async function releaseImport(
  sql: Sql,
  { tenantId, id }: Pick<HeldImport, "tenantId" | "id">,
  { holder, counts }: { holder: string; counts: boolean },
): Promise<void> {
  await sql`
    update product_imports set held_until = null, attempts = greatest(attempts - ${counts ? 0 : 1}, 0)
    where tenant_id = ${tenantId} and id = ${id} and held_by = ${holder} and status = 'running'`;
}

/**
 * The end: status, event and removal of the file in one statement. Null when another worker holds
 * the import by now.
 */
export async function finishImport(
  sql: Sql,
  { tenantId, id }: Pick<HeldImport, "tenantId" | "id">,
  end: { holder: string; status: "succeeded" | "failed"; error: string | null; eventId: string },
): Promise<boolean> {
  const source = sql`(
    select ${end.eventId}::uuid as id, 'import.finished' as topic, id::text as subject_id, seller_id,
      jsonb_build_object('id', id, 'status', status, 'rows', rows, 'created', created, 'updated', updated,
        'failed', failed, 'error', error) as payload, ${[...DOMAIN_CONSUMERS]}::text[] as consumers
    from ended) source`;
  const rows = await sql`
    with ended as (
      update product_imports set status = ${end.status}, error = ${end.error}, finished_at = now(), changed_ids = null,
        held_until = null, held_by = null
      where tenant_id = ${tenantId} and id = ${id} and held_by = ${end.holder} and status = 'running'
      returning tenant_id, id, seller_id, status, rows, created, updated, failed, error),
    told as (${insertFrom(sql, tenantId, source)}),
    emptied as (
      delete from product_import_chunks c using ended where c.tenant_id = ended.tenant_id and c.import_id = ended.id)
    select id from ended`;
  return rows.length > 0;
}

const report = (sql: Sql) => sql`
  id, status, rows, created, updated, failed, bytes::float8 as bytes, position::float8 as position, error,
  created_at as "createdAt", finished_at as "finishedAt"`;

/**
 * `sellerId` null: of every seller. Nobody knows the id of an import that is still being received.
 */
export async function selectImport(
  sql: Sql,
  tenantId: string,
  id: string,
  sellerId: string | null,
): Promise<ImportReport | null> {
  const [row] = await sql<ImportReport[]>`
    select ${report(sql)} from product_imports
    where tenant_id = ${tenantId} and id = ${id} and status <> 'receiving'
      ${sellerId === null ? sql`` : sql`and seller_id = ${sellerId}`}`;
  return row ?? null;
}

/** Newest first; ids are time-ordered. */
export async function selectImports(
  sql: Sql,
  tenantId: string,
  page: { before: string | null; limit: number; sellerId: string | null },
): Promise<ImportReport[]> {
  return sql<ImportReport[]>`
    select ${report(sql)} from product_imports
    where tenant_id = ${tenantId} and status <> 'receiving'
      ${page.before === null ? sql`` : sql`and id < ${page.before}`}
      ${page.sellerId === null ? sql`` : sql`and seller_id = ${page.sellerId}`}
    order by id desc limit ${page.limit}`;
}

export interface StoredRowError {
  line: number;
  path: string;
  message: string;
}

export async function selectErrors(
  sql: Sql,
  tenantId: string,
  importId: string,
  limit: number,
): Promise<StoredRowError[]> {
  return sql<StoredRowError[]>`${errorsOf(sql, tenantId, importId, { after: null, limit })}`;
}

/** As many as a page holds. */
export async function selectErrorPage(
  sql: Sql,
  tenantId: string,
  importId: string,
  after: StoredRowError | null,
  { rows, bytes }: PageSize,
): Promise<StoredRowError[]> {
  const query = errorsOf(sql, tenantId, importId, { after, limit: rows });
  const sizeOf = sql`octet_length(concat(path, message))`;
  return selectWithinBytes(sql, { query, orderBy: sql`line, path`, sizeOf, bytes });
}

function errorsOf(
  sql: Sql,
  tenantId: string,
  importId: string,
  { after, limit }: { after: StoredRowError | null; limit: number },
): Fragment {
  return sql`
    select line, path, message from product_import_errors
    where tenant_id = ${tenantId} and import_id = ${importId}
      ${after === null ? sql`` : sql`and (line, path) > (${after.line}, ${after.path})`}
    order by line, path limit ${limit}`;
}

/** Deletes broken-off uploads, and reports older than `keepMs`. Returns how many imports went. */
export async function pruneImports(sql: Sql, keepMs: number, limit: number): Promise<number> {
  const over = sql`((status = 'receiving' and held_until < now())
    or finished_at < now() - ${keepMs} * interval '1 millisecond')`;
  const found = await sql<{ tenant_id: string; id: string }[]>`
    select tenant_id, id from product_imports where ${over} limit ${limit}`;
  if (found.length === 0) return 0;
  const rows = await sql`
    with gone as (
      ${deleteByKey(sql, { table: "product_imports", key: TENANT_AND_ID, over }, found)}
      returning gone.tenant_id, gone.id),
    pieces as (
      delete from product_import_chunks c using gone where c.tenant_id = gone.tenant_id and c.import_id = gone.id),
    errors as (
      delete from product_import_errors e using gone where e.tenant_id = gone.tenant_id and e.import_id = gone.id)
    select id from gone`;
  return rows.length;
}
