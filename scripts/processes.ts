import { existsSync, readFileSync } from "node:fs";

const running = new Set<number>();
const SETPRIV = process.platform === "linux" ? Bun.which("setpriv") : null;
const POLL_MS = 50;

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

export interface Guard {
  /** Whom the command runs as; null: as we do. */
  user?: string | null;
  /** What the kernel sends to the command when this process dies. */
  onParentDeath?: "KILL" | "TERM" | "INT";
}

/**
 * The command line that runs `command` as another user and under the kernel's guard. setpriv
 * replaces itself by the command, so the child's pid is the command's own. The other programs give
 * no guard.
 */
export function guarded(command: string[], { user = null, onParentDeath = "KILL" }: Guard = {}): string[] {
  if (SETPRIV) {
    const identity = user ? [`--reuid=${user}`, `--regid=${idOf("-g", user)}`, "--init-groups"] : [];
    return [SETPRIV, `--pdeathsig=${onParentDeath}`, ...identity, "--", ...command];
  }
  if (!user) return command;
  if (Bun.which("runuser")) return ["runuser", "-u", user, "--", ...command];
  if (!Bun.which("su"))
    throw new Error(
      `Postgres cannot run as ${user} without setpriv, runuser or su: run this as a normal user.`,
    );
  return ["su", "-s", "/bin/sh", user, "-c", 'exec "$0" "$@"', "--", ...command];
}

/** A user's numeric id, or that of its group; null when there is no such user. */
export function idOf(kind: "-u" | "-g", user: string): number | null {
  const { exitCode, stdout } = Bun.spawnSync(["id", kind, user]);
  return exitCode === 0 ? Number(stdout.toString()) : null;
}

/** The command line of a process; empty for a dead one and for a zombie. */
export function commandLine(pid: number): string {
  if (!Number.isInteger(pid) || pid <= 0) return "";
  if (!existsSync("/proc/self"))
    return Bun.spawnSync(["ps", "-o", "args=", "-p", `${pid}`]).stdout.toString();
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

/**
 * A remembered pid may belong to another process by now, so it counts only with `words` in its
 * command line.
 */
export function isRunning(pid: number, words: string): boolean {
  return commandLine(pid).includes(words);
}

let hurried = false;

/** From now on nothing waits for a process that was asked to stop. */
export function stopWaiting(): void {
  hurried = true;
}

export interface StopOptions {
  signal?: NodeJS.Signals;
  graceMs: number;
}

/** Asks a child to stop, waits, then kills it; true when it had to be killed. */
export async function stopChild(
  child: Bun.Subprocess,
  { signal = "SIGTERM", graceMs }: StopOptions,
): Promise<boolean> {
  const pause = () => Promise.race([child.exited, Bun.sleep(POLL_MS)]);
  return askToStop(child.pid, () => hasEnded(child), pause, { signal, graceMs });
}

export function hasEnded(child: Bun.Subprocess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** The same for a process that is not ours, known by `words` in its command line. */
export async function stopStranger(pid: number, words: string, options: StopOptions): Promise<boolean> {
  const pause = () => Bun.sleep(POLL_MS);
  return askToStop(pid, () => !isRunning(pid, words), pause, options);
}

async function askToStop(
  pid: number,
  ended: () => boolean,
  pause: () => Promise<unknown>,
  { signal = "SIGTERM", graceMs }: StopOptions,
): Promise<boolean> {
  if (ended()) return false;
  signalProcess(pid, signal);
  // A paused process would take the signal only after it is resumed.
  signalProcess(pid, "SIGCONT");
  const deadline = performance.now() + graceMs;
  while (!ended() && !hurried && performance.now() < deadline) await pause();
  if (ended()) return false;
  signalProcess(pid, "SIGKILL");
  while (!ended()) await pause();
  return true;
}
