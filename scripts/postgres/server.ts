import { chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  commandLine,
  type Guard,
  guarded,
  hasEnded,
  idOf,
  isRunning,
  stopChild,
  trackProcess,
} from "../processes.ts";
import { eventually } from "../waiting.ts";
import type { PostgresPrograms } from "./programs.ts";

const START_MS = 60_000;
const STOP_MS = 30_000;
const STOP_SIGNALS = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const;
export type StopMode = keyof typeof STOP_SIGNALS;

/**
 * A folder that holds a cluster in `data` and the server's log; it belongs to the user of the
 * programs.
 */
export interface ClusterPlace {
  programs: PostgresPrograms;
  home: string;
}

export const dataOf = (home: string) => join(home, "data");
const logOf = (home: string) => join(home, "server.log");

/**
 * Makes a cluster with the superuser footfall, with this password or none. It is moved into place
 * when complete, so an interrupted initdb is never mistaken for data. Throws with what initdb said.
 */
export async function createCluster(
  { programs, home }: ClusterPlace,
  password: string | null,
): Promise<void> {
  const draft = join(home, "data.new");
  const passwordFile = join(home, "password");
  rmSync(draft, { recursive: true, force: true });
  if (password !== null) {
    writeFileSync(passwordFile, password, { mode: 0o600 });
    giveTo(programs.user, passwordFile);
  }
  const secured = [`--pwfile=${passwordFile}`, "--auth=scram-sha-256", "--data-checksums"];
  const kind = password === null ? ["--auth=trust", "--no-sync"] : secured;
  const initdb = [`--pgdata=${draft}`, "--username=footfall", "--encoding=UTF8", "--locale=C", ...kind];
  await runAsPostgres(programs, "initdb", initdb);
  rmSync(passwordFile, { force: true });
  renameSync(draft, dataOf(home));
}

export function giveTo(user: string | null, path: string): void {
  if (user) chownSync(path, idOf("-u", user) ?? 0, idOf("-g", user) ?? 0);
}

/** Runs one of the programs to its end. Throws with what it said. */
export async function runAsPostgres(
  { bin, user }: PostgresPrograms,
  name: string,
  args: string[],
  input = "",
): Promise<void> {
  // From /, because that user may not be allowed into our folder.
  const child = Bun.spawn(guarded([join(bin, name), ...args], { user }), {
    cwd: "/",
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
  });
  trackProcess(child);
  const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${name} failed.\n${said.join("")}`);
}

/** What postmaster.pid says: the server's pid, and whether it takes connections. */
function postmaster(home: string): { pid: number; ready: boolean } {
  try {
    const lines = readFileSync(join(dataOf(home), "postmaster.pid"), "utf8").split("\n");
    return { pid: Number(lines[0]), ready: lines[7]?.trim() === "ready" };
  } catch {
    return { pid: 0, ready: false };
  }
}

/**
 * The pid of the server that runs on this cluster, whichever process started it; null when none
 * does.
 */
export function runningPostmaster(home: string): number | null {
  const { pid } = postmaster(home);
  return isRunning(pid, dataOf(home)) ? pid : null;
}

export interface PostgresServer {
  /** Throws with the last line of its log when it does not start. */
  start(port: number): Promise<void>;
  stop(mode?: StopMode): Promise<void>;
}

/** A server on the cluster of `place`, listening on 127.0.0.1 only. */
export function createPostgresServer(
  { programs, home }: ClusterPlace,
  settings: Record<string, string>,
  onParentDeath: Guard["onParentDeath"] = "KILL",
): PostgresServer {
  const data = dataOf(home);
  let child: Bun.Subprocess | null = null;

  const start = async (port: number) => {
    // A pid file whose pid now belongs to a stranger would keep Postgres from starting; a dead pid
    // would not.
    const { pid } = postmaster(home);
    if (commandLine(pid) !== "" && !isRunning(pid, data)) rmSync(join(data, "postmaster.pid"));
    const options = {
      port: `${port}`,
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      ...settings,
    };
    const flags = Object.entries(options).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const command = [join(programs.bin, "postgres"), "-D", data, ...flags];
    const server = Bun.spawn(guarded(command, { user: programs.user, onParentDeath }), {
      cwd: "/",
      stdin: "ignore",
      stdout: "ignore",
      stderr: Bun.file(logOf(home)),
      // Ctrl-C is for us, who stop the parts in order.
      detached: true,
    });
    child = server;
    trackProcess(server);
    const ready = () => postmaster(home).ready && runningPostmaster(home) !== null;
    await eventually(() => hasEnded(server) || ready(), { timeoutMs: START_MS, intervalMs: 20 });
    if (hasEnded(server)) throw new Error(lastLine(logOf(home)));
  };
  const stop = async (mode: StopMode = "fast") => {
    if (child) await stopChild(child, { signal: STOP_SIGNALS[mode], graceMs: STOP_MS });
  };
  return { start, stop };
}

function lastLine(file: string): string {
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  return text.trim().split("\n").at(-1) ?? "";
}
