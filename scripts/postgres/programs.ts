import { accessSync, constants, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { setting } from "../environment.ts";
import { idOf } from "../processes.ts";

export const POSTGRES_MINIMUM = 14;
const TOOLS = ["postgres", "initdb", "psql"];
const PLACES = [
  "/usr/lib/postgresql/*/bin/postgres",
  "/usr/pgsql-*/bin/postgres",
  "/opt/homebrew/opt/postgresql*/bin/postgres",
  "/usr/local/opt/postgresql*/bin/postgres",
];

export interface PostgresPrograms {
  /** The folder that holds them. */
  bin: string;
  major: number;
  /** Whom they run as; null: as we do. */
  user: string | null;
}

/**
 * The newest suitable programs. `major`: the version that made a data directory; no other opens it.
 */
export function findPostgres(major?: number): PostgresPrograms | null {
  for (const bin of folders()) {
    if (!TOOLS.every((tool) => isProgram(join(bin, tool)))) continue;
    const found = majorOf(bin);
    if (found >= POSTGRES_MINIMUM && (major === undefined || found === major))
      return { bin, major: found, user: postgresUser() };
  }
  return null;
}

export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function* folders(): Generator<string> {
  const given = setting("PG_BIN_DIR");
  if (given) yield given;
  const onPath = Bun.which("postgres");
  // A link on the PATH may be alone; the other programs are where it points to.
  if (onPath) yield dirname(realpathSync(onPath));
  const installed = PLACES.flatMap((pattern) => [
    ...new Bun.Glob(pattern.slice(1)).scanSync({ cwd: "/", absolute: true, followSymlinks: true }),
  ]);
  const version = (path: string) => Number(/(\d+)/.exec(path)?.[1] ?? 0);
  for (const path of installed.sort((a, b) => version(b) - version(a))) yield dirname(path);
  const config = Bun.which("pg_config");
  if (config) yield Bun.spawnSync([config, "--bindir"]).stdout.toString().trim();
}

function majorOf(bin: string): number {
  const { stdout } = Bun.spawnSync([join(bin, "postgres"), "--version"]);
  return Number(/\) (\d+)/.exec(stdout.toString())?.[1] ?? 0);
}

/** Postgres refuses to run as root. */
export function postgresUser(): string | null {
  if (process.getuid?.() !== 0) return null;
  return setting("PG_RUN_AS") ?? (idOf("-u", "postgres") === null ? "nobody" : "postgres");
}
