import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Returns } from "./returns-repository.ts";
import * as repository from "./returns-repository.ts";

/** Rows a transaction folds: a tenth of a second or so, in which a worker may wait for one of them. */
const ROWS_AT_ONCE = 5_000;
/** Of members with years of days behind them, as many may take longer than a transaction may. */
const FEWEST_ROWS_AT_ONCE = 40;
/** A round ends then; what is left is counted row by row until the next one. */
const ROUND_MS = 20_000;

export type ReturnsFolder = ReturnType<typeof createReturnsFolder>;

/**
 * Takes new days of users and sessions into `daily_return_stats`. Not done by the rollup statement: two workers that add
 * days of one user would not see each other's. Until it is done, an answer counts such rows one by one.
 */
export function createReturnsFolder(db: Database) {
  /** Less after a transaction that took too long, twice as much after each that did not. */
  let bearable = ROWS_AT_ONCE;

  async function foldSome(tenantId: string, returns: Returns, limit: number): Promise<number> {
    return db.transaction(async (tx) => {
      await repository.lockReturns(tx, tenantId, returns);
      const rows = await repository.lockUnfolded(tx, tenantId, returns, limit);
      if (rows.length === 0) return 0;
      await repository.changeReturns(tx, tenantId, returns, { rows, direction: "in" });
      await repository.markFolded(tx, tenantId, returns, rows);
      return rows.length;
    });
  }

  /** Folds fewer than asked for where that took too long; `more` says that some may be left. */
  async function foldBearably(tenantId: string, returns: Returns, limit: number) {
    const atOnce = Math.min(limit, bearable);
    try {
      const rows = await foldSome(tenantId, returns, atOnce);
      bearable = Math.min(ROWS_AT_ONCE, bearable * 2);
      return { rows, more: rows === atOnce };
    } catch (error) {
      if (classifyFailure(error) !== "timeout" || atOnce <= FEWEST_ROWS_AT_ONCE) throw error;
      bearable = Math.max(FEWEST_ROWS_AT_ONCE, Math.floor(atOnce / 4));
      return { rows: 0, more: true };
    }
  }

  async function foldAll(returns: Returns, limit: number, deadline: number): Promise<number> {
    let folded = 0;
    let tenantId = await repository.selectUnfoldedTenant(db.write, returns, null);
    while (tenantId !== null && Date.now() < deadline) {
      const { rows, more } = await foldBearably(tenantId, returns, limit);
      folded += rows;
      if (!more) tenantId = await repository.selectUnfoldedTenant(db.write, returns, tenantId);
    }
    return folded;
  }

  return {
    /** Folds what waits, tenant by tenant. Returns how many rows. */
    async fold(rowsAtOnce = ROWS_AT_ONCE): Promise<number> {
      let folded = 0;
      for (const returns of repository.RETURNS)
        folded += await foldAll(returns, rowsAtOnce, Date.now() + ROUND_MS);
      return folded;
    },
  };
}
