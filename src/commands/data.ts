import type { Command } from "commander";
import { addImportCommand } from "./import.ts";
import { addSeedCommand } from "./seed.ts";

export function addDataCommands(program: Command): void {
  addImportCommand(program);
  addSeedCommand(program);
}
