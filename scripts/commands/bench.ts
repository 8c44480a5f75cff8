import { existsSync } from "node:fs";
import { join } from "node:path";
import { onCleanup } from "../cleanup.ts";
import { environment, setting } from "../environment.ts";
import { lockOrRefuse } from "../lock.ts";
import { findPostgres } from "../postgres/programs.ts";
import { guarded, stopChild, trackProcess } from "../processes.ts";
import { ROOT } from "../program.ts";
import { startServers } from "../servers.ts";

const STOP_MS = 5_000;

/**
 * The measurements, on the servers of `up`; `oha` and `psql` are found where cargo and Postgres put
 * them.
 */
export async function bench(names: string[]): Promise<number> {
  lockOrRefuse(
    "up",
    "./dev up is running in this checkout: stop it first, a measurement needs the machine for itself",
  );
  const { databaseUrl, redisUrl } = await startServers();
  const cargo = join(setting("HOME") ?? "/", ".cargo/bin");
  const path = [setting("PATH"), findPostgres()?.bin, existsSync(cargo) ? cargo : undefined];
  const child = Bun.spawn(guarded([process.execPath, "bench/run.ts", ...names]), {
    cwd: ROOT,
    env: environment({
      DATABASE_URL: databaseUrl,
      REDIS_URL: redisUrl,
      PATH: path.filter((one) => one !== undefined).join(":"),
    }),
    stdio: ["inherit", "inherit", "inherit"],
  });
  trackProcess(child);
  onCleanup(() => stopChild(child, { graceMs: STOP_MS }));
  return child.exited;
}
