import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { createTransactions, type RunTransaction } from "./transaction.ts";

export type Sql = postgres.Sql;
export type Fragment = postgres.PendingQuery<postgres.Row[]>;
export type Orm = PostgresJsDatabase;

export interface DatabaseOptions {
  url: string;
  prepare: boolean;
  applicationName: string;
}

/**
 * Separate pools: slow reads can't take the connections of ingest, nor a recount those of requests'
 * transactions. Call `begin` on `transactions` only, never more often at once than it has
 * connections: postgres.js can run statements outside their transaction (porsager/postgres #1189,
 * #823).
 */
export interface Database {
  write: Sql;
  read: Sql;
  /**
   * For rows that every request needs, and for probes. Behind slow questions they would seem
   * unanswered.
   */
  lookUps: Sql;
  rollup: Sql;
  /** For the command line: a recount may take as long as it takes. */
  transactions: Sql;
  /**
   * A real transaction, for the few writes of requests that can't be one statement. It waits
   * seconds for a lock.
   */
  transaction: RunTransaction;
  orm: Orm;
  close(): Promise<void>;
}

const WRITE_CONNECTIONS = 4;
export const READ_CONNECTIONS = 6;
const LOOK_UP_CONNECTIONS = 2;
const TRANSACTION_CONNECTIONS = 4;
/** Room for others beside those that wait for one locked row. */
const REQUEST_TRANSACTION_CONNECTIONS = 8;
const ORM_CONNECTIONS = 2;
const READ_TIMEOUT_MS = 15_000;
/** They take a millisecond, and a connection without an answer should be given up soon. */
const LOOK_UP_TIMEOUT_MS = 4_000;
const WRITE_TIMEOUT_MS = 30_000;
/** One each for consumer, sweeper and retries. */
const ROLLUP_CONNECTIONS = 3;
const ROLLUP_TIMEOUT_MS = 120_000;

/**
 * A transaction that waits for a lock, or whose process stopped, holds one of few connections. So
 * it must end long before the deadline of the request.
 */
const REQUEST_TRANSACTION_TIMEOUT_MS = 10_000;
const REQUEST_TRANSACTION_SETTINGS = { lock_timeout: "3s", idle_in_transaction_session_timeout: "10s" };

/**
 * Postgres can't know how many events a rollup reads, and plans for one row. Told not to sort, it
 * hashes the facts and sorts only the groups. With memory for that, 200,000 events take half the
 * time.
 */
const ROLLUP_SETTINGS = { work_mem: "64MB", enable_sort: "off" };
/**
 * One core a read: the admission of reads counts on it. On few and busy cores, parallel workers
 * turned a statement of 35 ms into one of 94 ms.
 */
const READ_SETTINGS = { max_parallel_workers_per_gather: "0" };
/**
 * A rebuild locks the rollups for a month at a time. Giving up and trying again is better than a
 * long wait.
 */
const ROLLUP_LOCK_TIMEOUT = "10s";

export function createDatabase(options: DatabaseOptions): Database {
  const write = connect(options, WRITE_CONNECTIONS, WRITE_TIMEOUT_MS);
  const read = connect(options, READ_CONNECTIONS, READ_TIMEOUT_MS, READ_SETTINGS);
  const lookUps = connect(options, LOOK_UP_CONNECTIONS, LOOK_UP_TIMEOUT_MS);
  const rollup = connect(options, ROLLUP_CONNECTIONS, ROLLUP_TIMEOUT_MS, {
    ...ROLLUP_SETTINGS,
    lock_timeout: ROLLUP_LOCK_TIMEOUT,
  });
  const transactions = connect(options, TRANSACTION_CONNECTIONS, 0, ROLLUP_SETTINGS);
  const requestTransactions = connect(
    options,
    REQUEST_TRANSACTION_CONNECTIONS,
    REQUEST_TRANSACTION_TIMEOUT_MS,
    REQUEST_TRANSACTION_SETTINGS,
  );
  // drizzle replaces the date parsers of the client it is given, so it gets one of its own.
  const ormConnections = connect(options, ORM_CONNECTIONS, READ_TIMEOUT_MS);
  return {
    write,
    read,
    lookUps,
    rollup,
    transactions,
    transaction: createTransactions(requestTransactions, REQUEST_TRANSACTION_CONNECTIONS),
    orm: drizzle(ormConnections),
    close: async () => {
      await Promise.all(
        [write, read, lookUps, rollup, transactions, requestTransactions, ormConnections].map((pool) =>
          pool.end({ timeout: 5 }),
        ),
      );
    },
  };
}

/**
 * Postgres ends every statement within its timeout. This leaves time for the way of its last
 * answer.
 */
const SILENCE_GRACE_MS = 2_000;

/**
 * One pool. `statementTimeoutMs` 0 means no limit; `settings` are run-time parameters of its
 * sessions.
 */
export function connect(
  options: DatabaseOptions,
  max: number,
  statementTimeoutMs: number,
  settings: Record<string, string> = {},
): Sql {
  const pool = postgres(options.url, {
    max,
    prepare: options.prepare,
    connect_timeout: 5,
    idle_timeout: 60,
    max_lifetime: 30 * 60,
    // Of our patch: a peer that is gone without a word would be waited for for ever.
    silence_timeout: statementTimeoutMs === 0 ? undefined : (statementTimeoutMs + SILENCE_GRACE_MS) / 1_000,
    backoff: (attempt: number) => Math.min(0.1 * 2 ** attempt, 2),
    onnotice: () => {},
    connection: {
      application_name: options.applicationName,
      statement_timeout: statementTimeoutMs,
      TimeZone: "UTC",
      jit: "off",
      ...settings,
    },
  });
  knowTextArrays(pool);
  return pool;
}

/** The ids of these types in every Postgres. */
const TEXT = 25;
const TEXT_ARRAY = 1009;

/**
 * postgres.js learns how to send arrays on a pool's first connection. Before that, Postgres refused
 * what `sql.array` made.
 */
function knowTextArrays({ options }: Sql): void {
  const { shared, serializers } = options as unknown as {
    shared: { typeArrayMap: Record<number, number> };
    serializers: Record<number, (values: unknown) => unknown>;
  };
  const quoted = (value: unknown) =>
    value === null ? "null" : `"${String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  shared.typeArrayMap[TEXT] = TEXT_ARRAY;
  serializers[TEXT_ARRAY] = (values) => (Array.isArray(values) ? `{${values.map(quoted).join()}}` : values);
}
