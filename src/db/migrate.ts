import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import { connect, type DatabaseOptions, type Sql } from "./client.ts";
import { MIGRATION_FILES, MIGRATION_JOURNAL } from "./migrations.ts";
import { ensurePartitionsAhead } from "./partitions.ts";

/** Any constant will do; it must only differ from the other advisory locks of the program. */
const MIGRATION_LOCK = 7_370_001;

/**
 * Brings the database to this program's schema and makes the partitions of the coming months. Any
 * number of processes may call it at once: an advisory lock of the session is held around drizzle's
 * migrate(), which takes none.
 */
export async function migrateDatabase(options: DatabaseOptions): Promise<void> {
  const sql = connect({ ...options, applicationName: "footfall migrate" }, 1, 0);
  try {
    await sql`select pg_advisory_lock(${MIGRATION_LOCK})`;
    await withMigrationFolder((migrationsFolder) => migrate(drizzle(sql), { migrationsFolder }));
    await ensurePartitionsAhead(sql, Date.now());
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** True when every migration that this program knows has been applied. */
export async function isMigrated(sql: Sql): Promise<boolean> {
  const newest = Math.max(...MIGRATION_JOURNAL.entries.map((entry) => entry.when));
  const rows = await sql<{ applied: boolean }[]>`
    select coalesce(max(created_at), 0) >= ${newest} as applied from drizzle.__drizzle_migrations`.catch(
    (error: { code?: string }) => {
      if (error.code === "42P01") return [{ applied: false }];
      throw error;
    },
  );
  return rows[0]?.applied ?? false;
}

/**
 * drizzle reads migrations from a folder only, so the ones inside the binary are written to a
 * temporary one.
 */
async function withMigrationFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "footfall-migrations-"));
  try {
    await mkdir(join(folder, "meta"));
    await Bun.write(join(folder, "meta", "_journal.json"), JSON.stringify(MIGRATION_JOURNAL));
    for (const [tag, text] of Object.entries(MIGRATION_FILES))
      await Bun.write(join(folder, `${tag}.sql`), text);
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
