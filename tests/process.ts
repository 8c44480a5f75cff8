import { join } from "node:path";
import { onCleanup } from "../scripts/cleanup.ts";
import { guarded, signalProcess, stopChild, trackProcess } from "../scripts/processes.ts";
import { programCommand } from "../scripts/program.ts";
import { eventually, freePort } from "../scripts/waiting.ts";

const ROOT = join(import.meta.dir, "..");
const START_MS = 20_000;
const STOP_MS = 20_000;

export type Environment = Record<string, string>;

export interface FootfallProcess {
  readonly pid: number;
  /** The exit code, 128 + n after signal n; resolves when all output has been read. */
  readonly exited: Promise<number>;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, then the exit code; kills and throws when the process needs more than 20 s. */
  stop(): Promise<number>;
  stdout(): string;
  stderr(): string;
  /** Both, in the order in which they arrived. */
  output(): string;
}

/**
 * A full, valid environment. Its servers do not exist: pass DATABASE_URL and REDIS_URL of those you
 * started.
 */
export function testEnv(overrides: Environment = {}): Environment {
  return {
    NODE_ENV: "test",
    HOST: "127.0.0.1",
    DATABASE_URL: "postgres://footfall@127.0.0.1:1/absent",
    REDIS_URL: "redis://127.0.0.1:1",
    JWT_SECRET: "t3stS3cr3t-Xq7Lw9Zb2Rk5Nf8Hv4Jd6Mg1Pc0Yt3Ua7Ee2Ko",
    LOG_LEVEL: "warn",
    // Tests send as fast as they can; those of the limits switch them on again.
    RATE_LIMIT_AUTH: "off",
    RATE_LIMIT_STANDARD: "off",
    RATE_LIMIT_IMPORT: "off",
    RATE_LIMIT_ANALYTICS: "off",
    RATE_LIMIT_EVENTS_READ: "off",
    RATE_LIMIT_EVENTS_WRITE: "off",
    RATE_LIMIT_BAD_CREDENTIALS: "off",
    ...overrides,
  };
}

/**
 * Starts `bun src/cli.ts <command>`, or the compiled program when FOOTFALL_BIN names one. It sees
 * `env` and of ours only PATH, HOME and TMPDIR, and no .env file.
 */
export function spawnFootfall(command: string[], env: Environment): FootfallProcess {
  const child = Bun.spawn(guarded(programCommand(command)), {
    cwd: ROOT,
    env: { ...inherited(), ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  trackProcess(child);

  const text = { stdout: "", stderr: "", output: "" };
  const collect = async (stream: ReadableStream<Uint8Array>, name: "stdout" | "stderr") => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const piece = decoder.decode(chunk, { stream: true });
      text[name] += piece;
      text.output += piece;
    }
  };
  const drained = Promise.all([collect(child.stdout, "stdout"), collect(child.stderr, "stderr")]);
  const exited = child.exited.then(async (code) => {
    await drained;
    return code;
  });

  const footfall: FootfallProcess = {
    pid: child.pid,
    exited,
    kill: (signal) => void signalProcess(child.pid, signal),
    async stop() {
      const late = await stopChild(child, { graceMs: STOP_MS });
      if (late)
        throw new Error(`\`${command.join(" ")}\` did not stop within ${STOP_MS} ms.\n${text.output}`);
      return exited;
    },
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    output: () => text.output,
  };
  onCleanup(() => stopChild(child, { graceMs: STOP_MS }));
  return footfall;
}

/** Runs a command to its end. */
export async function runFootfall(
  command: string[],
  env: Environment,
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const child = spawnFootfall(command, env);
  const exitCode = await child.exited;
  return { exitCode, stdout: child.stdout(), stderr: child.stderr() };
}

/**
 * Runs `serve` on a free port (or env.PORT) and returns when it answers GET /health/live. Throws
 * with its output.
 */
export async function startServer(env: Environment): Promise<FootfallProcess & { url: string }> {
  const port = env.PORT ?? String(freePort());
  const url = `http://127.0.0.1:${port}`;
  const server = spawnFootfall(["serve"], { ...env, PORT: port });
  await ready(server, "serve", async () => (await fetch(`${url}/health/live`)).status === 200);
  return Object.assign(server, { url });
}

/**
 * Runs `worker` and returns when it says that it has started; it says so at level info. Throws with
 * its output.
 */
export async function startWorker(env: Environment): Promise<FootfallProcess> {
  const worker = spawnFootfall(["worker"], { ...env, LOG_LEVEL: "info" });
  await ready(worker, "worker", () => worker.output().includes("worker started"));
  return worker;
}

async function ready(
  child: FootfallProcess,
  name: string,
  check: () => boolean | Promise<boolean>,
): Promise<void> {
  let exitCode: number | undefined;
  child.exited.then((code) => {
    exitCode = code;
  });
  const answers = eventually(async () => exitCode !== undefined || (await check()), {
    timeoutMs: START_MS,
    intervalMs: 20,
  });
  const problem = await answers.then(
    () => (exitCode === undefined ? null : `ended with exit code ${exitCode} instead of starting`),
    () => `was not ready within ${START_MS} ms`,
  );
  if (problem === null) return;
  child.kill("SIGKILL");
  await child.exited;
  throw new Error(`\`${name}\` ${problem}.\n${child.output()}`);
}

function inherited(): Environment {
  const env: Environment = {};
  for (const name of ["PATH", "HOME", "TMPDIR"]) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}
