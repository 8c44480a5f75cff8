import type { Sql, TransactionSql } from "postgres";
import { createSemaphore } from "../core/semaphore.ts";
import { retryRolledBack } from "./failures.ts";

export type Transaction = TransactionSql;
export type RunTransaction = <T>(work: (tx: Transaction) => Promise<T>) => Promise<T>;

const MAX_WAITING = 200;

/**
 * Transactions on a pool of `connections`, never more at once: postgres.js may send statements
 * outside their transaction when `begin` has to wait for a connection (porsager/postgres #1189).
 * After a deadlock or a serialization failure the work is done again, so it must have no effect
 * outside the transaction.
 */
export function createTransactions(sql: Sql, connections: number): RunTransaction {
  const slots = createSemaphore(connections, MAX_WAITING);
  return (work) => slots.run(() => retryRolledBack(() => sql.begin(work) as Promise<never>));
}
