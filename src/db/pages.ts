import type { Fragment, Sql } from "./client.ts";

/**
 * A long result in pages that are bounded by bytes, since a client's data says how large a row is.
 * Postgres has to measure all candidate rows, also those that don't fit, so the page before says
 * how many rows to read.
 */
export interface PageSize {
  rows: number;
  bytes: number;
}

/**
 * What a reader of pages holds at a time, some three times over: as rows, as text and in the
 * socket.
 */
const PAGE_BYTES = 512 * 1024;
const ROWS = { first: 100, least: 16, most: 1_000 };
/** Where a page was full before its rows were: the next one may hold some more. */
const SPARE = 1.1;

/** The pages after one another, until an empty one, which comes as well. */
export async function* readPages<T>(
  readPage: (after: T | null, size: PageSize) => Promise<T[]>,
): AsyncGenerator<T[], void, undefined> {
  let after: T | null = null;
  let rows = ROWS.first;
  do {
    const page: T[] = await readPage(after, { rows, bytes: PAGE_BYTES });
    yield page;
    after = page.at(-1) ?? null;
    const likely = page.length < rows ? Math.ceil(page.length * SPARE) : rows * 2;
    rows = Math.min(Math.max(likely, ROWS.least), ROWS.most);
  } while (after !== null);
}

/** Of a row, beside what is measured. */
const ROW_BYTES = 400;

/**
 * The first rows of a query, in the order of `orderBy`, that fit into `bytes`, and at least one.
 * `sizeOf` is the bytes of the row's large columns as text: a number of a few bytes may be written
 * with hundreds of digits. Both name output columns. Measuring whole rows took as long again as
 * reading them.
 */
export async function selectWithinBytes<T extends object>(
  sql: Sql,
  { query, orderBy, sizeOf, bytes }: { query: Fragment; orderBy: Fragment; sizeOf: Fragment; bytes: number },
): Promise<T[]> {
  const rows = await sql<(T & { page_bytes: unknown; page_total: unknown })[]>`
    select * from (
      select measured.*, sum(page_bytes) over (order by ${orderBy} rows unbounded preceding) as page_total
      from (select one.*, ${sizeOf} + ${ROW_BYTES}::int as page_bytes from (${query}) one) measured) page
    where page_total - page_bytes < ${bytes} order by ${orderBy}`;
  return rows.map(({ page_bytes, page_total, ...row }) => row as unknown as T);
}
