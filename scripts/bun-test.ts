import { createWriteStream } from "node:fs";
import { availableParallelism } from "node:os";
import { onCleanup } from "./cleanup.ts";
import { environment, setting } from "./environment.ts";
import { say } from "./messages.ts";
import { guarded, stopChild, trackProcess } from "./processes.ts";
import { ROOT } from "./program.ts";
import { logFile } from "./state.ts";

const TIMEOUT_MS = 30_000;
const STOP_MS = 5_000;
/** A process that a test left behind can hold the output open for ever. */
const OUTPUT_MS = 2_000;

export interface TestResult {
  passed: number;
  failed: number;
  skipped: number;
  /** The names of the tests that failed. */
  failures: string[];
}

/**
 * Runs `bun test` on as many files at once as there are cores. Its output goes to ours and to the
 * log.
 */
export async function runTests(args: string[], env: Record<string, string>): Promise<TestResult> {
  const isColoured = process.stderr.isTTY && !setting("NO_COLOR");
  const workers = Math.max(2, availableParallelism());
  const options = ["--no-orphans", `--parallel=${workers}`, `--timeout=${TIMEOUT_MS}`];
  const child = Bun.spawn(guarded([process.execPath, "test", ...options, ...args]), {
    cwd: ROOT,
    env: environment({ ...env, ...(isColoured ? { FORCE_COLOR: "1" } : {}) }),
    stdin: "ignore",
    stdout: "inherit",
    stderr: "pipe",
    // Ctrl-C is for us.
    detached: true,
  });
  trackProcess(child);
  onCleanup(() => stopChild(child, { graceMs: STOP_MS }));
  let text = "";
  const log = createWriteStream(logFile("test"));
  const output = (async () => {
    for await (const chunk of child.stderr) {
      process.stderr.write(chunk);
      log.write(chunk);
      text += Buffer.from(chunk).toString();
    }
  })();
  const code = await child.exited;
  await Promise.race([output, Bun.sleep(OUTPUT_MS)]);
  log.end();
  return judge(code, text);
}

/**
 * The outcome, by the summary at the end of bun test's output. A runner that broke counts as a
 * failure.
 */
function judge(code: number, text: string): TestResult {
  const result = {
    passed: lastCount(text, "pass"),
    failed: lastCount(text, "fail"),
    skipped: lastCount(text, "skip") + lastCount(text, "todo"),
    failures: failedTests(text),
  };
  if (code !== 0 && result.failed === 0) {
    say(
      `bun test ended with exit code ${code} without a failed test: no test matched, or the runner broke; see above.`,
    );
    return { ...result, failed: 1 };
  }
  if (result.passed + result.failed === 0) {
    say("no test ran: nothing matches the arguments.");
    return { ...result, failed: 1 };
  }
  return result;
}

/** Each once: bun test says them again at the end. */
function failedTests(text: string): string[] {
  const names = [...Bun.stripANSI(text).matchAll(/^\(fail\) (.+?)(?: \[[\d.]+m?s\])?$/gm)];
  return [...new Set(names.map(([, name = ""]) => name))];
}

/** The number before `word` in the summary. */
function lastCount(text: string, word: string): number {
  const lines = [...Bun.stripANSI(text).matchAll(new RegExp(`^\\s*(\\d+) ${word}\\s*$`, "gm"))];
  return Number(lines.at(-1)?.[1] ?? 0);
}
