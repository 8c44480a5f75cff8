import { onCleanup } from "./cleanup.ts";
import { environment } from "./environment.ts";
import { refuse, say } from "./messages.ts";
import { guarded, isRunning, stopChild, stopStranger, trackProcess } from "./processes.ts";
import { ROOT, sourceCommand } from "./program.ts";
import { forget, logFile, readNumber, shown, writeState } from "./state.ts";

const START_MS = 60_000;
/** Longer than SHUTDOWN_GRACE_MS, in which the program finishes its requests. */
const APP_STOP_MS = 15_000;
const SEED_STOP_MS = 5_000;
const PARTS = { seed: SEED_STOP_MS, app: APP_STOP_MS } as const;
const COMMANDS = { seed: "seed", app: "up" } as const;
type Part = keyof typeof PARTS;

/** Runs a command of the program to its end, with its output on ours. */
export async function runProgram(args: string[], env: Record<string, string>): Promise<number> {
  const child = Bun.spawn(guarded(sourceCommand(args)), {
    cwd: ROOT,
    env: environment(env),
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  trackProcess(child);
  return child.exited;
}

/**
 * Starts API and worker, and resolves once they listen. They report it over Bun's channel between
 * parent and child, since somebody else's server may answer on the same port. Null when it ended
 * before.
 */
export async function startApp(env: Record<string, string>): Promise<Bun.Subprocess | null> {
  const listening = Promise.withResolvers<"listening">();
  const app = spawnPart("app", [COMMANDS.app], env, {
    stdio: "inherit",
    onMessage: () => listening.resolve("listening"),
  });
  const outcome = await Promise.race([
    listening.promise,
    app.exited.then(() => "ended" as const),
    Bun.sleep(START_MS).then(() => "late" as const),
  ]);
  if (outcome === "late") refuse(`Footfall was not ready within ${START_MS / 1_000} s; its log is above.`);
  return outcome === "ended" ? null : app;
}

/** Fills the shop with demo data in the background, and reports the outcome. */
export function startSeed(env: Record<string, string>): void {
  const log = logFile("seed");
  const seed = spawnPart("seed", [COMMANDS.seed, "--tenant", "default", "--once"], env, {
    stdio: Bun.file(log),
  });
  void seed.exited.then(async (code) => {
    // A file that is gone means: stopped on purpose.
    if (readNumber("seed.pid") === null) return;
    const lines = (await Bun.file(log).text()).trim().split("\n");
    say(code === 0 ? `demo data: ${lines.at(-1)}` : `the demo data could not be made: see ${shown(log)}`);
  });
}

function spawnPart(
  part: Part,
  args: string[],
  env: Record<string, string>,
  { stdio, onMessage }: { stdio: "inherit" | Bun.BunFile; onMessage?: () => void },
): Bun.Subprocess {
  // When we die, the kernel asks it to stop.
  const child = Bun.spawn(guarded(sourceCommand(args), { onParentDeath: "TERM" }), {
    cwd: ROOT,
    env: environment(env),
    stdin: "ignore",
    stdout: stdio,
    stderr: stdio,
    // Ctrl-C is for us, who stop the parts in order.
    detached: true,
    ...(onMessage ? { ipc: onMessage } : {}),
  });
  trackProcess(child);
  writeState(`${part}.pid`, `${child.pid}`);
  onCleanup(async () => {
    forget(`${part}.pid`);
    await stopChild(child, { graceMs: PARTS[part] });
  });
  return child;
}

/** Stops what a killed `./dev up` left running. */
export async function stopLeftovers(): Promise<void> {
  for (const part of ["seed", "app"] as const) {
    const pid = readNumber(`${part}.pid`);
    forget(`${part}.pid`);
    const words = sourceCommand([COMMANDS[part]]).slice(1).join(" ");
    if (pid === null || !isRunning(pid, words)) continue;
    say(`stopping \`footfall ${COMMANDS[part]}\` (process ${pid}) of an earlier run`);
    await stopStranger(pid, words, { graceMs: PARTS[part] });
  }
}
