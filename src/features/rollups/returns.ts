import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Returns } from "./returns-repository.ts";
import * as repository from "./returns-repository.ts";

/**
 * Rows a transaction folds. It takes about a tenth of a second, in which a worker may wait for one
 * of them.
 */
const ROWS_AT_ONCE = 5_000;
/** Members with years of days may make as many rows take longer than a transaction may. */
const FEWEST_ROWS_AT_ONCE = 40;
/** A round ends then; what is left is counted row by row until the next one. */
const ROUND_MS = 20_000;

export type ReturnsFolder = ReturnType<typeof createReturnsFolder>;

/**
 * Takes new days of users, buyers and sessions into `daily_return_stats`. The rollup statement
 * can't: two workers that add days of one user would not see each other's. Until it is done, an
 * answer counts such rows one by one. See docs/unique-visitors.md.
 */
export function createReturnsFolder(db: Database) {
  /**
   * By tenant and subject: fewer rows after a transaction that took too long, twice as many after
   * each that did not.
   */
  const bearable = new Map<string, number>();
  /** The last tenant that had a turn; null before the first one. */
  const lastServed: Record<Returns["subject"], string | null> = { user: null, buyer: null, session: null };

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

  /** Folds fewer rows after it took too long; `more` says that some may be left. */
  async function foldBearably(tenantId: string, returns: Returns, limit: number) {
    const key = `${returns.subject} ${tenantId}`;
    const most = bearable.get(key) ?? ROWS_AT_ONCE;
    const atOnce = Math.min(limit, most);
    try {
      const rows = await foldSome(tenantId, returns, atOnce);
      if (most * 2 < ROWS_AT_ONCE) bearable.set(key, most * 2);
      else bearable.delete(key);
      return { rows, more: rows === atOnce };
    } catch (error) {
      if (classifyFailure(error) !== "timeout" || atOnce <= FEWEST_ROWS_AT_ONCE) throw error;
      bearable.set(key, Math.max(FEWEST_ROWS_AT_ONCE, Math.floor(atOnce / 4)));
      return { rows: 0, more: true };
    }
  }

  /**
   * Tenants take turns of one transaction, and a round goes on where the last one ended, so a large
   * backlog delays nobody else. A tenant at which it failed has no more turns in this round. It
   * ends after a whole pass in which nobody has more, and then throws the first failure; at once
   * when Postgres is away.
   */
  async function foldInTurns(returns: Returns, limit: number, deadline: number): Promise<number> {
    const { subject } = returns;
    let folded = 0;
    const failed = new Map<string, unknown>();
    for (let unsure = true; unsure && Date.now() < deadline; ) {
      unsure = lastServed[subject] !== null;
      while (Date.now() < deadline) {
        const tenantId = await repository.selectUnfoldedTenant(db.write, returns, lastServed[subject]);
        lastServed[subject] = tenantId;
        if (tenantId === null) break;
        if (failed.has(tenantId)) continue;
        try {
          const { rows, more } = await foldBearably(tenantId, returns, limit);
          folded += rows;
          unsure ||= more;
        } catch (error) {
          if (classifyFailure(error) === "unavailable") throw error;
          failed.set(tenantId, error);
        }
      }
    }
    for (const error of failed.values()) throw error;
    return folded;
  }

  /** In as many transactions as it takes. */
  async function foldWhole(tenantId: string, returns: Returns): Promise<void> {
    for (let more = true; more; ) ({ more } = await foldBearably(tenantId, returns, ROWS_AT_ONCE));
  }

  return {
    /**
     * Folds all that a tenant has by now, however long it takes. Rows that others hold locked are
     * left.
     */
    async foldTenant(tenantId: string): Promise<void> {
      for (const returns of repository.RETURNS) await foldWhole(tenantId, returns);
    },

    /**
     * Folds what waits. Returns how many rows. Throws the first failure after it has done what it
     * can.
     */
    async fold(rowsAtOnce = ROWS_AT_ONCE): Promise<number> {
      let folded = 0;
      const failures: unknown[] = [];
      for (const returns of repository.RETURNS) {
        try {
          folded += await foldInTurns(returns, rowsAtOnce, Date.now() + ROUND_MS);
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
      return folded;
    },
  };
}
