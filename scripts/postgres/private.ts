import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { onCleanup } from "../cleanup.ts";
import { refuse, say } from "../messages.ts";
import { guarded, stopStranger } from "../processes.ts";
import { ROOT } from "../program.ts";
import { randomText } from "../random-text.ts";
import { inState, readNumber, readState, shown, writeState } from "../state.ts";
import { freePortFrom } from "../waiting.ts";
import { findPostgres, type PostgresPrograms, postgresUser } from "./programs.ts";
import {
  type ClusterPlace,
  createCluster,
  createPostgresServer,
  dataOf,
  giveTo,
  runAsPostgres,
  runningPostmaster,
} from "./server.ts";

/**
 * The cluster of `./dev up`, and that of `./dev test`, which need not survive a crash and may be
 * made anew at any time.
 */
export type ClusterName = "postgres" | "test-postgres";
const CLUSTERS = {
  postgres: {
    firstPort: 5440,
    settings: { max_connections: "200", shared_buffers: "256MB", max_wal_size: "4GB", wal_compression: "on" },
  },
  "test-postgres": {
    firstPort: 5540,
    settings: { max_connections: "300", shared_buffers: "256MB", fsync: "off", full_page_writes: "off" },
  },
} as const;
const STOP_MS = 30_000;
const ATTEMPTS = 10;
const ATTEMPT_PAUSE_MS = 500;

/**
 * Starts the cluster, made if it is missing, until cleanup(). Returns its URL without a database at
 * the end.
 */
export async function startPrivatePostgres(name: ClusterName): Promise<string> {
  const home = homeOf(name);
  // A server that outlived its ./dev: there must not be two servers on one cluster.
  await stopPrivatePostgres(name);
  const programs = programsFor(dataOf(home), versionOf(name, dataOf(home)));
  prepareHome(name, { programs, home });
  if (!existsSync(dataOf(home))) await makeCluster(name, { programs, home });
  else if (!/^\S{16,}$/.test(readState(`${name}.password`))) await replacePassword(name, { programs, home });
  const { settings, firstPort } = CLUSTERS[name];
  // When we die, the kernel asks it to shut down.
  const server = createPostgresServer({ programs, home }, settings, "INT");
  onCleanup(() => server.stop("fast"));
  for (let attempt = 1; ; attempt += 1) {
    const port = rememberedPort(name, firstPort);
    say(`starting Postgres ${programs.major} on port ${port}`);
    try {
      await server.start(port);
      return `postgres://footfall:${readState(`${name}.password`)}@127.0.0.1:${port}`;
    } catch (error) {
      // After a kill -9 the old backends need a moment to go; until then the memory counts as in
      // use.
      if (attempt === ATTEMPTS)
        refuse(
          `Postgres did not start: ${(error as Error).message} (see ${shown(join(home, "server.log"))}; ./dev clean deletes it with all data).`,
        );
      await Bun.sleep(ATTEMPT_PAUSE_MS);
    }
  }
}

/** Stops the server on this cluster, even if another process started it. */
export async function stopPrivatePostgres(name: ClusterName): Promise<void> {
  const home = homeOf(name);
  const pid = runningPostmaster(home);
  if (pid !== null) await stopStranger(pid, dataOf(home), { signal: "SIGINT", graceMs: STOP_MS });
}

/** The port of last time while it is free, else the first free one. */
export function rememberedPort(name: string, first: number): number {
  const port = freePortFrom(first, readNumber(`${name}.port`));
  writeState(`${name}.port`, `${port}`);
  return port;
}

/**
 * Where a cluster is: inside .footfall, unless the user of Postgres cannot get there (a checkout
 * under /root or in a 0700 folder). Once outside, it stays there.
 */
export function homeOf(name: ClusterName): string {
  const user = postgresUser();
  const inside = inState(name);
  if (user === null) return inside;
  const remembered = readState(`${name}.home`);
  if (new RegExp(`^/var/tmp/footfall-\\d+-${user}/${name}$`).test(remembered)) return remembered;
  const reachable = Bun.spawnSync(guarded(["test", "-x", inState(".")], { user }), { cwd: "/" });
  return reachable.exitCode === 0 ? inside : `/var/tmp/footfall-${Bun.hash.crc32(ROOT)}-${user}/${name}`;
}

/**
 * The version that made the data; null where there is none yet. Data without a version is damaged.
 */
function versionOf(name: ClusterName, data: string): number | null {
  if (!existsSync(data)) return null;
  const file = join(data, "PG_VERSION");
  const version = existsSync(file) ? readFileSync(file, "utf8").trim() : "";
  if (/^\d+$/.test(version)) return Number(version);
  const isEmpty = statSync(data).isDirectory() && readdirSync(data).length === 0;
  if (name === "postgres" && !isEmpty)
    refuse(
      `${shown(data)} is damaged (PG_VERSION says no version): ./dev clean deletes it, and the next ./dev up makes a new one.`,
    );
  if (!isEmpty) say(`${shown(data)} is damaged (PG_VERSION says no version): making it anew`);
  rmSync(data, { recursive: true });
  return null;
}

function programsFor(data: string, version: number | null): PostgresPrograms {
  const programs = findPostgres(version ?? undefined);
  return (
    programs ??
    refuse(
      `${shown(data)} was made by Postgres ${version}, which is not installed: install it, or delete the data with ./dev clean.`,
    )
  );
}

function prepareHome(name: ClusterName, { programs: { user }, home }: ClusterPlace): void {
  if (user !== null && home !== inState(name)) {
    const outside = dirname(home);
    if (!existsSync(outside)) mkdirSync(outside, { mode: 0o711 });
    if (lstatSync(outside).isSymbolicLink() || statSync(outside).uid !== process.getuid?.())
      refuse(`${outside} belongs to someone else: remove it and run ./dev again.`);
    if (!existsSync(home))
      say(`user ${user} cannot reach this checkout, so Postgres keeps its data in ${home}`);
    writeState(`${name}.home`, home);
  }
  if (existsSync(home)) return;
  mkdirSync(home, { mode: 0o700 });
  giveTo(user, home);
}

async function makeCluster(name: ClusterName, place: ClusterPlace): Promise<void> {
  say(`creating a Postgres ${place.programs.major} cluster in ${shown(place.home)}`);
  const password = randomText(24);
  writeState(`${name}.password`, password);
  await createCluster(place, password).catch((error: Error) => refuse(error.message.trim()));
}

/**
 * The password is lost or damaged. The cluster gets a new one from a server that nobody can connect
 * to.
 */
async function replacePassword(name: ClusterName, { programs, home }: ClusterPlace): Promise<void> {
  say(`${shown(inState(`${name}.password`))} is lost: giving the cluster a new password`);
  const password = randomText(24);
  const statement = `alter role footfall password '${password}'\n`;
  await runAsPostgres(programs, "postgres", ["--single", "-D", dataOf(home), "postgres"], statement).catch(
    (error: Error) => refuse(error.message.trim()),
  );
  writeState(`${name}.password`, password);
}
