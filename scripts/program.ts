import { join } from "node:path";
import { setting } from "./environment.ts";

export const ROOT = join(import.meta.dir, "..");
const SOURCE = join(ROOT, "src/cli.ts");

/**
 * `footfall <args>` for tests: without a .env file, and by the compiled program that FOOTFALL_BIN
 * names.
 */
export function programCommand(args: string[]): string[] {
  const binary = setting("FOOTFALL_BIN");
  return binary ? [binary, ...args] : [process.execPath, "--no-env-file", SOURCE, ...args];
}

/** `footfall <args>` from the source of this checkout, which reads its .env file. */
export function sourceCommand(args: string[]): string[] {
  return [process.execPath, SOURCE, ...args];
}
