#!/usr/bin/env bun
import { Command } from "commander";
import { addAdminCommands } from "./commands/admin.ts";
import { addDataCommands } from "./commands/data.ts";
import { explainFailure } from "./commands/failure.ts";
import { addProcessCommands } from "./commands/processes.ts";
import { addRecountCommands } from "./commands/recount.ts";
import { VERSION } from "./version.ts";

const program = new Command("footfall")
  .description(
    "Self-hosted product analytics for online shops. Configuration is by environment; see .env.example.",
  )
  .version(VERSION)
  .showHelpAfterError("(run with --help for the options)");

addProcessCommands(program);
addAdminCommands(program);
addDataCommands(program);
addRecountCommands(program);

// Not top-level await: the binary's bytecode is CommonJS.
program.parseAsync().catch((error: unknown) => {
  console.error(`footfall: ${explainFailure(error)}`);
  process.exit(1);
});
