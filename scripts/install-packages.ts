import { join } from "node:path";
import { environment } from "./environment.ts";
import { runCommand } from "./leaving.ts";
import { whileLocked } from "./lock.ts";
import { refuse, say } from "./messages.ts";
import { packageStamp, STAMP } from "./package-stamp.ts";
import { guarded, trackProcess } from "./processes.ts";
import { ROOT } from "./program.ts";
import { logFile, shown } from "./state.ts";

/** What `./dev` runs first once there is a Bun. It installs the packages, so it uses none. */

const SAY_EVERY_MS = 5_000;
/**
 * A registry that is refused or silent is noticed within half a minute (Bun's own: five minutes,
 * six times).
 */
const PATIENCE = { BUN_CONFIG_HTTP_IDLE_TIMEOUT: "5", BUN_CONFIG_HTTP_RETRY_COUNT: "1" };

async function isInstalled(): Promise<boolean> {
  const stamp = Bun.file(join(ROOT, STAMP));
  return (await stamp.exists()) && (await stamp.text()) === (await packageStamp(ROOT));
}

async function install(): Promise<void> {
  if (await isInstalled()) return;
  say("installing packages");
  const startedAt = performance.now();
  const progress = setInterval(() => {
    say(`still installing packages (${Math.round((performance.now() - startedAt) / 1_000)} s)`);
  }, SAY_EVERY_MS);
  const child = Bun.spawn(guarded([process.execPath, "install", "--frozen-lockfile"]), {
    cwd: ROOT,
    env: { ...PATIENCE, ...environment() },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  trackProcess(child);
  const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  clearInterval(progress);
  await Bun.write(logFile("install"), said.join(""));
  if ((await child.exited) !== 0) refuse(explain(said.join(""), shown(logFile("install"))));
  await Bun.write(join(ROOT, STAMP), await packageStamp(ROOT));
}

function explain(errors: string, log: string): string {
  if (/ConnectionRefused|Timeout|ConnectionClosed|DNS|ENOTFOUND|Unreachable/i.test(errors))
    return `the packages could not be installed, because the npm registry does not answer: check the network and the registry's address, then run ./dev again (see ${log}).`;
  return `the packages could not be installed: see ${log}; after a change of package.json run ./dev bun install.`;
}

await runCommand(async () => {
  if (!(await isInstalled())) await whileLocked("setup", install);
  return 0;
});
