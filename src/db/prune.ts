import { idAt } from "../core/ids.ts";
import type { Fragment, Sql } from "./client.ts";
import type { Transaction } from "./transaction.ts";

const AT_ONCE = 10_000;
const ROUND_MS = 20_000;
const DAY_MS = 86_400_000;

/**
 * Runs `prune` in small statements until nothing is left or the time is up; the next round takes
 * the rest. Fewer rows than the limit are no end: some statements have limits of their own.
 */
export async function pruneAll(prune: (limit: number) => Promise<number>): Promise<number> {
  let pruned = 0;
  for (const deadline = Date.now() + ROUND_MS; Date.now() < deadline; ) {
    const rows = await prune(AT_ONCE);
    pruned += rows;
    if (rows === 0) break;
  }
  return pruned;
}

/** A table's primary key: its columns with their types. */
type KeyTypes = Readonly<Record<string, "uuid" | "text" | "bigint">>;
type Key<K extends KeyTypes> = Readonly<Record<keyof K, string>>;

/** The key of most tables. */
export const TENANT_AND_ID = { tenant_id: "uuid", id: "uuid" } as const;

/**
 * Deletes at most `limit` rows that are `over`, the first by `orderBy` first; returns how many. It
 * takes two statements, since one may not read the table that it deletes from (Citus). A row that
 * is no longer over by the second one stays. `spared` rows are not considered.
 */
export async function pruneTable(
  sql: Sql,
  {
    table,
    key,
    over,
    orderBy,
    spared = sql`false`,
  }: { table: string; key: KeyTypes; over: Fragment; orderBy: string; spared?: Fragment },
  limit: number,
): Promise<number> {
  const found = await sql<Key<typeof key>[]>`
    select ${sql(Object.keys(key))} from ${sql(table)} where ${over} and not (${spared}) order by ${sql(orderBy)} limit ${limit}`;
  if (found.length === 0) return 0;
  return (await deleteByKey(sql, { table, key, over }, found)).count;
}

/**
 * Deletes at most `limit` rows that are older than `days`; returns how many. For tables whose key
 * is the tenant and a UUIDv7: each tenant's oldest rows come first in the primary key, so no index
 * on time is needed. `over` adds conditions; the rows are named `old`.
 */
export async function pruneOldIds<K extends KeyTypes>(
  sql: Sql,
  {
    table,
    key,
    id,
    days,
    over = sql`true`,
  }: { table: string; key: K; id: string; days: number; over?: Fragment },
  limit: number,
): Promise<number> {
  const before = idAt(Date.now() - days * DAY_MS);
  const found = await sql<Key<K>[]>`
    select ${sql(Object.keys(key).map((name) => `old.${name}`))} from tenants cross join lateral (
      select * from ${sql(table)} old
      where old.tenant_id = tenants.id and old.${sql(id)} < ${before} and ${over} order by old.${sql(id)} limit ${limit}
    ) old limit ${limit}`;
  if (found.length === 0) return 0;
  return (await deleteByKey(sql, { table, key }, found)).count;
}

/**
 * The second of those statements, for keys found in another way. A `returning` may follow; the
 * table is `gone`.
 */
export function deleteByKey<K extends KeyTypes>(
  sql: Sql | Transaction,
  { table, key, over = sql`true` }: { table: string; key: K; over?: Fragment },
  found: readonly Key<K>[],
): Fragment {
  const names = Object.keys(key);
  const columns = names.map(
    (name) => sql`${found.map((row) => row[name] ?? "")}::${sql.unsafe(`${key[name]}[]`)}`,
  );
  const equal = names.map((name) => sql`gone.${sql(name)} = old.${sql(name)}`);
  return sql`
    delete from ${sql(table)} gone using unnest(${joined(sql, columns, sql`, `)}) as old(${sql(names)})
    where ${joined(sql, equal, sql` and `)} and ${over}`;
}

function joined(sql: Sql | Transaction, parts: readonly Fragment[], between: Fragment): Fragment {
  return parts.reduce((before, part) => sql`${before}${between}${part}`);
}
