import { existsSync } from "node:fs";
import { onCleanup } from "./cleanup.ts";
import { whileLocked } from "./lock.ts";
import { refuse, say } from "./messages.ts";
import { findPostgres } from "./postgres/programs.ts";
import { findRedis } from "./redis.ts";
import { logFile, shown } from "./state.ts";

const POLICY = "/usr/sbin/policy-rc.d";
const ASIDE = `${POLICY}.before-footfall`;
const OURS = "footfall: ./dev is installing packages";

export type ServerPackage = "postgresql" | "redis-server";
const isFound = { postgresql: () => findPostgres() !== null, "redis-server": () => findRedis() !== null };

/**
 * Installs what is missing of `needed`, or refuses and says how to. `command`: which one of ./dev
 * needs it.
 */
export async function ensureServerPrograms(command: "up" | "test", needed: ServerPackage[]): Promise<void> {
  const missing = () => needed.filter((name) => !isFound[name]());
  if (missing().length === 0) return;
  await whileLocked("setup", async () => {
    if (missing().length > 0) await installWithApt(missing());
  });
  if (missing().length > 0) refuse(explainMissing(missing(), command));
}

const asAdmin = (command: string[]) => (process.getuid?.() === 0 ? command : ["sudo", "-n", ...command]);

async function runAsAdmin(
  command: string[],
  log: Bun.BunFile | "ignore" = "ignore",
  input = "",
): Promise<boolean> {
  try {
    const child = Bun.spawn(asAdmin(command), { stdin: new Blob([input]), stdout: log, stderr: log });
    return (await child.exited) === 0;
  } catch {
    // There is no such program, or no sudo.
    return false;
  }
}

/**
 * Debian's packages start their services on 5432 and 6379; a policy of "no" prevents that. An
 * existing policy is put back, also after a signal.
 */
async function installWithApt(names: ServerPackage[]): Promise<void> {
  if (!Bun.which("apt-get") || !(await runAsAdmin(["true"]))) return;
  say(`installing ${names.join(" ")} with apt-get (only the programs; no system service is started)`);
  await restorePolicy();
  const installing = Promise.withResolvers<void>();
  // dpkg is not to be killed half-way, so leaving waits for it.
  onCleanup(async () => {
    await installing.promise;
    await restorePolicy();
  });
  if (existsSync(POLICY)) await runAsAdmin(["mv", POLICY, ASIDE]);
  await runAsAdmin(["tee", POLICY], "ignore", `#!/bin/sh\n# ${OURS}\nexit 101\n`);
  await runAsAdmin(["chmod", "755", POLICY]);
  const log = logFile("apt");
  const install = "apt-get update && apt-get install -y --no-install-recommends";
  const done = await runAsAdmin(
    ["env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", `${install} ${names.join(" ")}`],
    Bun.file(log),
  );
  installing.resolve();
  await restorePolicy();
  if (existsSync("/run/systemd/system"))
    for (const name of names) await runAsAdmin(["systemctl", "disable", name]);
  if (!done) say(`apt-get failed: see ${shown(log)}`);
}

async function restorePolicy(): Promise<void> {
  if (existsSync(ASIDE)) await runAsAdmin(["mv", ASIDE, POLICY]);
  else if (existsSync(POLICY) && (await Bun.file(POLICY).text()).includes(OURS))
    await runAsAdmin(["rm", "-f", POLICY]);
}

function explainMissing(names: ServerPackage[], command: "up" | "test"): string {
  const brew = names.map((name) => (name === "postgresql" ? "postgresql@17" : "redis"));
  const lines = [
    `${names.join(" ")} not found, and ./dev cannot install it here: do one of these and run ./dev again.`,
    `  Debian, Ubuntu   sudo apt-get install -y ${names.join(" ")}`,
    `  macOS            brew install ${brew.join(" ")}`,
  ];
  if (command === "up")
    lines.push(
      "  Docker           docker run -d -p 127.0.0.1:5432:5432 -e POSTGRES_USER=footfall -e POSTGRES_PASSWORD=footfall postgres:15",
      "                   docker run -d -p 127.0.0.1:6379:6379 redis:7",
      "                   export DATABASE_URL=postgres://footfall:footfall@127.0.0.1:5432/footfall REDIS_URL=redis://127.0.0.1:6379",
    );
  return lines.join("\n");
}
