import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * What a test file started, undone in reverse. Three nets lie under it: preload.ts kills what a file forgot, the kernel
 * kills the children of a runner that died (guarded), and `bun test --no-orphans` does so where there is no setpriv.
 */
const undo: (() => Promise<void> | void)[] = [];
const running = new Set<number>();

/** Registers something to undo; the last registered is undone first. */
export function onCleanup(step: () => Promise<void> | void): void {
  undo.push(step);
}

/** Stops and removes everything this test file started. Call it in afterAll. Throws the first failure, after trying all. */
export async function cleanup(): Promise<void> {
  const failures: unknown[] = [];
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Remembers a child process until it has exited. */
export function trackProcess(child: Bun.Subprocess): void {
  running.add(child.pid);
  child.exited.then(() => running.delete(child.pid));
}

/** SIGKILL for every tracked process that still runs; returns their pids. */
export function killLeftovers(): number[] {
  const pids = [...running];
  running.clear();
  for (const pid of pids) signalProcess(pid, "SIGKILL");
  return pids;
}

/** Sends a signal; false when the process is gone already. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

const SETPRIV = process.platform === "linux" ? Bun.which("setpriv") : null;

/**
 * The command, run as `user` (null: as we are) in such a way that the kernel kills it when this process dies.
 * setpriv replaces itself by the command, so that the child's pid is the command's own.
 */
export function guarded(command: string[], user: string | null = null): string[] {
  if (SETPRIV) {
    const identity = user ? [`--reuid=${user}`, `--regid=${groupOf(user)}`, "--init-groups"] : [];
    return [SETPRIV, "--pdeathsig=KILL", ...identity, "--", ...command];
  }
  if (user)
    throw new Error(
      `Postgres cannot run as ${user} without setpriv (package util-linux): run the tests as a normal user.`,
    );
  return command;
}

function groupOf(user: string): string {
  return Bun.spawnSync(["id", "-g", user]).stdout.toString().trim();
}

/**
 * An empty directory of our own, removed by cleanup(). Its name carries our pid, so that the next run can remove what
 * an aborted one left: a Postgres cluster is 40 MB.
 */
export function temporaryDirectory(purpose: string): string {
  const prefix = `footfall-test-${purpose}-`;
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const owner = Number(name.slice(prefix.length).split("-")[0]);
    if (owner > 0 && !isAlive(owner)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  const directory = mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`));
  onCleanup(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: alive, and someone else's.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
