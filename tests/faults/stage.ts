import postgres, { type Sql } from "postgres";
import { parseConfig } from "../../src/config.ts";
import { newId } from "../../src/core/ids.ts";
import type { Deps } from "../../src/deps.ts";
import { createRandom, type Random } from "../../src/features/seeding/random.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { createTenant, createTestDeps, type TestTenant } from "../factories.ts";
import {
  createTestDatabase,
  type Environment,
  eventually,
  onCleanup,
  startRedis,
  type TestRedis,
  testEnv,
} from "../harness.ts";

/**
 * What the fault tests share: a database, a Redis and tenants of the test file's own, for real
 * `serve` and `worker` processes. One printed seed decides all that is random; FAULT_SEED repeats a
 * run, FAULT_ROUNDS says how many points are hit. The kernel's scheduler is not repeated, so the
 * seed gives a similar run.
 */
export interface Stage {
  env: Environment;
  deps: Deps;
  /** Straight to the database, past everything that the application does. */
  sql: Sql;
  redis: TestRedis;
  tenants: TestTenant[];
}

/**
 * For beforeAll and afterAll: making and dropping a database takes a checkpoint, which is slow on a
 * busy disk.
 */
export const HOOK_MS = 60_000;

/** On `database` (migrated), or on one of its own. */
export async function createStage({ database }: { database?: string } = {}): Promise<Stage> {
  const [url, redis] = await Promise.all([
    database ?? createTestDatabase().then((created) => created.url),
    startRedis(),
  ]);
  const env = testEnv({ DATABASE_URL: url, REDIS_URL: redis.url });
  const deps = createTestDeps(parseConfig({ ...env, LOG_LEVEL: "silent" }));
  const sql = postgres(url, { max: 4, onnotice: () => {} });
  onCleanup(() => sql.end({ timeout: 5 }));
  await waitUntilReady(deps.redis, 5_000);
  const tenants: TestTenant[] = [];
  for (const time_zone of ["UTC", "Asia/Kolkata", "America/St_Johns"])
    tenants.push(await createTenant({ deps, sql }, { time_zone }));
  return { env, deps, sql, redis, tenants };
}

const seed = Number(process.env.FAULT_SEED) || Math.floor(Math.random() * 2 ** 31);

/** The run's seed, printed and put into every assertion's message, and numbers drawn from it. */
export function seeded(name: string): { random: Random; seed: string; rngOf(stream: number): Random } {
  const stream = Bun.hash.crc32(name);
  console.log(`${name}: FAULT_SEED=${seed}`);
  return {
    random: createRandom(seed, stream),
    seed: `FAULT_SEED=${seed}`,
    rngOf: (n) => createRandom(seed, stream + n + 1),
  };
}

export function rounds(byDefault: number): number {
  return Number(process.env.FAULT_ROUNDS) || byDefault;
}

/**
 * True when more than the suite's quick amount was asked for: outages then have their full length.
 */
export const thorough = process.env.FAULT_ROUNDS !== undefined;

/** "p50 1.2, p99 3.4, max 3.9" */
export function distribution(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return `p50 ${Math.round(at(0.5))} ms, p99 ${Math.round(at(0.99))} ms, max ${Math.round(at(1))} ms`;
}

/**
 * Batches received before an instant of the database's clock (default: all) that are not rolled up.
 */
export async function countUndone({ sql }: Pick<Stage, "sql">, before?: Date): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from event_batches
    where rolled_up_at is null and received_at <= ${(before ?? new Date(8.64e15 / 100)).toISOString()}::timestamptz`;
  return row?.n ?? 0;
}

export interface GroupMember {
  name: string;
  pending: number;
  idleMs: number;
}

/** The members of the workers' consumer group; none while there is no group. */
export async function groupMembers({ deps }: Pick<Stage, "deps">): Promise<GroupMember[]> {
  const rows = (await deps.redis
    .xinfo("CONSUMERS", EVENT_BATCHES.key, EVENT_BATCHES.group)
    .catch((error: Error) => {
      if (/no such key|NOGROUP/i.test(error.message)) return [];
      throw error;
    })) as (string | number)[][];
  return rows.map((row) => {
    const value = (field: string) => row[row.indexOf(field) + 1];
    return { name: String(value("name")), pending: Number(value("pending")), idleMs: Number(value("idle")) };
  });
}

export async function countPending(stage: Pick<Stage, "deps">): Promise<number> {
  const members = await groupMembers(stage);
  return members.reduce((sum, { pending }) => sum + pending, 0);
}

/**
 * Holds a lock on a table until released, so that its writers stop in the middle of their
 * statement.
 */
export async function holdTable({ sql }: Pick<Stage, "sql">, table: string): Promise<() => Promise<void>> {
  const holder = await sql.reserve();
  await holder`begin`;
  await holder.unsafe(`lock table ${table} in share row exclusive mode`);
  return async () => {
    await holder`rollback`;
    holder.release();
  };
}

/** Holds a messageId, so that only the statement that stores its event stops in the middle. */
export async function holdMessage({ sql }: Pick<Stage, "sql">, tenantId: string, messageId: string) {
  const holder = await sql.reserve();
  await holder`begin`;
  const [own] = await holder<{ pid: number }[]>`select pg_backend_pid() as pid`;
  await holder`insert into event_keys ${holder({
    tenant_id: tenantId,
    message_id: messageId,
    event_id: newId(),
  })}`;
  return {
    /** Resolves when a statement waits for it. */
    blocks: () =>
      eventually(
        async () => {
          const [waiting] = await sql<{ n: number }[]>`
            select count(*)::int as n from pg_stat_activity where ${own?.pid ?? 0} = any(pg_blocking_pids(pid))`;
          return (waiting?.n ?? 0) > 0;
        },
        { intervalMs: 5 },
      ),
    async release(): Promise<void> {
      await holder`rollback`;
      holder.release();
    },
  };
}

/** Backends of a role's processes that wait for a lock right now. */
export async function blockedBackends({ sql }: Pick<Stage, "sql">, role: string): Promise<number[]> {
  const rows = await sql<{ pid: number }[]>`
    select pid from pg_stat_activity
    where datname = current_database() and application_name = ${`footfall ${role}`} and wait_event_type = 'Lock'`;
  return rows.map((row) => row.pid);
}

export async function untilBlocked(stage: Pick<Stage, "sql">, role: string): Promise<number[]> {
  return eventually(
    async () => {
      const pids = await blockedBackends(stage, role);
      return pids.length > 0 && pids;
    },
    { intervalMs: 5 },
  );
}

/** Resolves when no backend of a role's processes runs a statement. */
export async function untilIdle({ sql }: Pick<Stage, "sql">, role: string): Promise<void> {
  await eventually(
    async () => {
      const active = await sql`select from pg_stat_activity where datname = current_database()
        and application_name = ${`footfall ${role}`} and state = 'active'`;
      return active.length === 0;
    },
    { intervalMs: 5 },
  );
}
