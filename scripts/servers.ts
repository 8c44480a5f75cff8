import postgres from "postgres";
import { setting } from "./environment.ts";
import { ensureServerPrograms, type ServerPackage } from "./missing-programs.ts";
import { startPrivatePostgres } from "./postgres/private.ts";
import { startPrivateRedis } from "./private-redis.ts";

const DATABASE = "footfall";

export interface Servers {
  databaseUrl: string;
  redisUrl: string;
  /** Ours alone, so that we may change passwords in it. */
  isPrivate: boolean;
}

/**
 * Postgres and Redis for `up` and `bench`: those of the environment, else private ones until
 * cleanup().
 */
export async function startServers(): Promise<Servers> {
  const given = { database: setting("DATABASE_URL"), redis: setting("REDIS_URL") };
  const needed: ServerPackage[] = [];
  if (!given.database) needed.push("postgresql");
  if (!given.redis) needed.push("redis-server");
  await ensureServerPrograms("up", needed);
  return {
    databaseUrl: given.database ?? (await startDatabase()),
    redisUrl: given.redis ?? (await startPrivateRedis()),
    isPrivate: given.database === undefined,
  };
}

async function startDatabase(): Promise<string> {
  const server = await startPrivatePostgres("postgres");
  const sql = postgres(`${server}/postgres`, { max: 1 });
  const found = await sql`select from pg_database where datname = ${DATABASE}`;
  if (found.length === 0) await sql`create database ${sql(DATABASE)}`.simple();
  await sql.end();
  return `${server}/${DATABASE}`;
}
