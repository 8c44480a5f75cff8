import type { Transaction } from "../../db/transaction.ts";
import type { Rollup } from "./definitions.ts";
import { changeReturns, lockReturns, type MemberDay, RETURNS } from "./returns-repository.ts";

/**
 * The rows `changed` of a rollup that now count nothing, as JSON. A row's first measure counts its
 * events.
 */
export function selectEmpty({ measures }: Rollup, changed: string): string {
  return `coalesce((select jsonb_agg(to_jsonb(${changed})) from ${changed} where ${measures[0]} = 0), '[]')`;
}

/** Keys of a row as Postgres wrote them, and perhaps more. */
export type EmptyRow = Record<string, unknown>;

/**
 * For rows whose events were taken away. A rollup holds no empty row, since a recount would not
 * make one. Days that go leave the counts of returning members, too. Call it in the order of
 * RETURNS, which is that of their locks.
 */
export async function dropEmptyRows(
  tx: Transaction,
  tenantId: string,
  { table, keys, measures }: Rollup,
  rows: readonly EmptyRow[],
): Promise<void> {
  if (rows.length === 0) return;
  const returns = RETURNS.find((one) => one.table === table);
  // Behind its lock, so that a row is folded either before it goes or never.
  if (returns) await lockReturns(tx, tenantId, returns);
  const same = keys.map((key) => `kept.${key} = empty.${key}`).join(" and ");
  const returned = returns
    ? `kept.day::text, kept.${returns.member} as member, kept.folded`
    : "kept.tenant_id";
  const gone = await tx.unsafe<(MemberDay & { folded: boolean })[]>(
    `delete from ${table} kept using jsonb_populate_recordset(null::${table}, $2::text::jsonb) as empty
     where kept.tenant_id = $1 and ${same} and kept.${measures[0]} = 0 returning ${returned}`,
    [tenantId, JSON.stringify(rows.map((row) => ({ ...row, tenant_id: tenantId })))],
  );
  if (returns)
    await changeReturns(tx, tenantId, returns, {
      rows: gone.filter(({ folded }) => folded),
      direction: "out",
    });
}
