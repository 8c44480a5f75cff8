import { chmodSync, copyFileSync, cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { packageStamp, STAMP } from "../../scripts/package-stamp.ts";
import { trackProcess } from "../../scripts/processes.ts";
import { eventually, onCleanup, temporaryDirectory } from "../harness.ts";

const ROOT = join(import.meta.dir, "../..");
/** The programs of a minimal system: neither Bun nor npm, nor a package manager. */
const SYSTEM_TOOLS =
  "awk bash cat chmod dirname env getconf grep head ln ls mkdir mv readlink rm sed sh sleep sort tail touch tr";
/** What the servers need on top: to run as another user. */
const SERVER_TOOLS = ["id", "setpriv", "runuser", "su", "test"];
/**
 * What the program needs beside scripts/. Those are copied: their place says which checkout they
 * work for.
 */
const LINKED = ["src", "worker", "drizzle", "patches", "package.json", "bun.lock", "tsconfig.json"];
/** Long, since a machine may be busy; only a failure waits for it. */
export const PATIENCE = { timeoutMs: 120_000 };

export interface Run {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface Started {
  readonly pid: number;
  output(): string;
  /**
   * Resolves once the output contains `text`; throws with the output when the command ends before.
   */
  says(text: string | RegExp): Promise<void>;
  /** The exit code after this signal; 128 + n when the signal itself ended it. */
  end(signal: NodeJS.Signals): Promise<number>;
  readonly exited: Promise<number>;
}

export type Variables = Record<string, string>;

export interface Checkout {
  root: string;
  /** The PATH of its commands, and nothing else. */
  bin: string;
  dev(args: string[], env?: Variables): Run;
  start(args: string[], env?: Variables): Started;
}

/** A checkout with nothing but ./dev and its scripts, and a PATH of its own. */
export function bareCheckout(): Checkout {
  const root = temporaryDirectory("checkout");
  const bin = join(root, "bin");
  mkdirSync(bin);
  linkTools(bin, SYSTEM_TOOLS.split(" "));
  copyFileSync(join(ROOT, "dev"), join(root, "dev"));
  cpSync(join(ROOT, "scripts"), join(root, "scripts"), { recursive: true });
  const environment = (env: Variables) => ({ PATH: bin, HOME: root, ...env });
  return {
    root,
    bin,
    dev(args, env = {}) {
      const child = Bun.spawnSync(["./dev", ...args], { cwd: root, env: environment(env) });
      return { exitCode: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
    },
    start: (args, env = {}) => start(root, args, environment(env)),
  };
}

/** The same with Bun on the PATH and the packages installed. */
export async function readyCheckout(): Promise<Checkout> {
  const checkout = bareCheckout();
  const { root, bin } = checkout;
  symlinkSync(process.execPath, join(bin, "bun"));
  linkTools(bin, SERVER_TOOLS);
  for (const name of LINKED) symlinkSync(join(ROOT, name), join(root, name));
  mkdirSync(join(root, "node_modules"));
  for (const name of readdirSync(join(ROOT, "node_modules")))
    if (name !== ".footfall-stamp")
      symlinkSync(join(ROOT, "node_modules", name), join(root, "node_modules", name));
  writeFileSync(join(root, STAMP), await packageStamp(root));
  return checkout;
}

export function linkTools(bin: string, tools: string[]): void {
  for (const tool of tools) {
    const path = Bun.which(tool);
    if (path) symlinkSync(path, join(bin, tool));
  }
}

export function writeScript(path: string, body: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
}

function start(root: string, args: string[], env: Variables): Started {
  // Both outputs in one pipe, which keeps their order.
  const command = ["sh", "-c", 'exec ./dev "$@" 2>&1', "sh", ...args];
  const child = Bun.spawn(command, { cwd: root, env, stdin: "ignore", stdout: "pipe" });
  trackProcess(child);
  let text = "";
  const drained = (async () => {
    for await (const chunk of child.stdout) text += Buffer.from(chunk).toString();
  })();
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    const code = await child.exited;
    return code;
  };
  onCleanup(() => (child.exitCode === null && child.signalCode === null ? end("SIGTERM") : 0));
  return {
    pid: child.pid,
    output: () => text,
    async says(wanted) {
      const isThere = () => (typeof wanted === "string" ? text.includes(wanted) : wanted.test(text));
      await eventually(() => isThere() || child.exitCode !== null, PATIENCE);
      if (child.exitCode !== null) await drained;
      if (!isThere()) throw new Error(`./dev ${args.join(" ")} did not say ${wanted}:\n${text}`);
    },
    end,
    exited: child.exited.then(async (code) => {
      await drained;
      return code;
    }),
  };
}
