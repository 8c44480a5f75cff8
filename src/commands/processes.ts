import type { Command } from "commander";
import { startWorker } from "../../worker/main.ts";
import { parseConfig } from "../config.ts";
import { migrateDatabase } from "../db/migrate.ts";
import { closeDeps, createDeps } from "../deps.ts";
import { startApi } from "../main.ts";

interface Stoppable {
  stop(): Promise<void>;
}

export function addProcessCommands(program: Command): void {
  program
    .command("up")
    .description("migrate, then run API and worker together in this process")
    .action(async () => {
      const config = parseConfig();
      await migrate(config.databaseUrl);
      const deps = createDeps(config, "up");
      const api = await startApi(config, deps);
      const worker = await startWorker(config, deps);
      // Rolls up what waits, and reports what could not be rolled up. The rest only makes answers
      // fast, so a complete load does not fail by it.
      process.send?.({ listening: api.url });
      await untilSignal(api, worker, { stop: () => closeDeps(deps, config.shutdownGraceMs) });
    });

  program
    .command("serve")
    .description("run the API")
    .action(async () => untilSignal(await startApi(parseConfig())));

  program
    .command("worker")
    .description("run a worker; any number may run")
    .action(async () => untilSignal(await startWorker(parseConfig())));

  program
    .command("migrate")
    .description("bring the database to this version; safe to run from several places at once")
    .action(async () => {
      await migrate(parseConfig(undefined, { listens: false }).databaseUrl);
      console.log("The database is up to date.");
    });
}

async function migrate(url: string): Promise<void> {
  await migrateDatabase({ url, prepare: false, applicationName: "footfall migrate" });
}

/**
 * Runs until SIGTERM or SIGINT, then stops the parts in order. A second signal ends the process at
 * once.
 */
async function untilSignal(...parts: Stoppable[]): Promise<void> {
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));
  for (const part of parts) await part.stop();
  process.exit(0);
}
