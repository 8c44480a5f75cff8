import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { onCleanup } from "../scripts/cleanup.ts";
import { findPostgres } from "../scripts/postgres/programs.ts";
import { createCluster, createPostgresServer, giveTo, type StopMode } from "../scripts/postgres/server.ts";
import { eventually, freePort } from "../scripts/waiting.ts";
import { runFootfall, testEnv } from "./process.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

const ROOT = join(import.meta.dir, "..");
/** Any constant will do; it only has to be the same in every worker of a run. */
const TEMPLATE_LOCK = 4_046_017;
const ABANDONED_AFTER_SECONDS = 3600;

export interface TestDatabase {
  url: string;
  name: string;
  drop(): Promise<void>;
}

/**
 * A migrated, empty database of the caller's own on the server of TEST_DATABASE_URL, cloned from a
 * template that is migrated once per state of the migrations. One lock covers making and cloning
 * the template: a clone fails while another one reads it.
 */
export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `footfall_test_${Math.floor(Date.now() / 1000)}_${randomBytes(4).toString("hex")}`;
  await withMaintenance(async (sql) => {
    await sql`select pg_advisory_lock(${TEMPLATE_LOCK})`;
    const template = await ensureTemplate(sql);
    await sql`create database ${sql(name)} template ${sql(template)}`.simple();
  });
  const drop = async () => {
    await withMaintenance(
      async (sql) => void (await sql`drop database if exists ${sql(name)} with (force)`.simple()),
    );
  };
  onCleanup(drop);
  return { url: databaseUrl(name), name, drop };
}

/** Brings the database at `url` to the current schema, by the program itself. */
export async function migrate(url: string): Promise<void> {
  const { exitCode, stdout, stderr } = await runFootfall(["migrate"], testEnv({ DATABASE_URL: url }));
  if (exitCode !== 0) throw new Error(`migrate ended with exit code ${exitCode}.\n${stdout}${stderr}`);
}

function serverUrl(): string {
  const url = process.env.TEST_DATABASE_URL;
  if (!url)
    throw new Error(
      "TEST_DATABASE_URL is not set: run the tests with ./dev test, which starts a database for them.",
    );
  return url;
}

function databaseUrl(name: string): string {
  const url = new URL(serverUrl());
  url.pathname = `/${name}`;
  return url.href;
}

/** Closing the one connection releases its advisory lock, even when `work` throws. */
async function withMaintenance(work: (sql: Sql) => Promise<void>): Promise<void> {
  const sql = postgres(serverUrl(), { max: 1, onnotice: () => {} });
  try {
    await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

async function ensureTemplate(sql: Sql): Promise<string> {
  const template = `footfall_template_${schemaFingerprint()}`;
  const found = await sql`select from pg_database where datname = ${template}`;
  if (found.length > 0) return template;

  await dropStale(sql);
  const draft = `${template}_draft`;
  await sql`create database ${sql(draft)}`.simple();
  await migrate(databaseUrl(draft));
  // The migrating connection may take a moment to be gone, and a database in use cannot be renamed.
  await eventually(() => sql`alter database ${sql(draft)} rename to ${sql(template)}`.simple());
  await sql`alter database ${sql(template)} with is_template true allow_connections false`.simple();
  return template;
}

/** The templates of other schemas, a half-made one, and the databases of aborted runs. */
async function dropStale(sql: Sql): Promise<void> {
  const before = Math.floor(Date.now() / 1000) - ABANDONED_AFTER_SECONDS;
  const stale = await sql<{ datname: string; datistemplate: boolean }[]>`
    select datname, datistemplate from pg_database
    where datname like 'footfall\\_template\\_%'
      or (datname ~ '^footfall_test_[0-9]+_' and split_part(datname, '_', 3)::bigint < ${before})`;
  for (const { datname, datistemplate } of stale) {
    if (datistemplate) await sql`alter database ${sql(datname)} with is_template false`.simple();
    await sql`drop database if exists ${sql(datname)} with (force)`.simple();
  }
}

/**
 * Of the migrations, of the code that applies them, and of the month: migrating also makes the
 * partitions now due.
 */
function schemaFingerprint(): string {
  const hash = createHash("sha256").update(new Date().toISOString().slice(0, 7));
  for (const [folder, extension] of [
    ["drizzle", ".sql"],
    ["src/db", ".ts"],
  ] as const) {
    const names = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(extension));
    for (const name of names.sort()) hash.update(name).update(readFileSync(join(ROOT, folder, name)));
  }
  return hash.digest("hex").slice(0, 16);
}

export interface TestPostgres {
  /** Of the empty database `postgres`, as a superuser. */
  readonly url: string;
  readonly port: number;
  stop(mode?: StopMode): Promise<void>;
  /** Again, on the same port and data. */
  start(): Promise<void>;
}

/**
 * A Postgres cluster for tests that stop and start the database. The caller makes the schema
 * (`migrate(url)`).
 */
export async function startPostgres({
  settings = {},
}: {
  settings?: Record<string, string>;
} = {}): Promise<TestPostgres> {
  const programs = findPostgres();
  if (!programs)
    throw new Error(
      "The Postgres programs are not installed: run ./dev test, which installs them or says how.",
    );
  const port = freePort();
  const home = temporaryDirectory("postgres");
  giveTo(programs.user, home);
  await createCluster({ programs, home }, null);
  const server = createPostgresServer({ programs, home }, { max_connections: "100", ...settings });
  await server.start(port);
  onCleanup(() => server.stop("immediate"));
  return {
    url: `postgres://footfall@127.0.0.1:${port}/postgres`,
    port,
    stop: (mode) => server.stop(mode),
    start: () => server.start(port),
  };
}
