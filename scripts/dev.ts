import { runCommand } from "./leaving.ts";

/**
 * What `./dev <command>` does once Bun and the packages are there. Each command is loaded when it
 * is asked for: `clean` must work where a package is missing.
 */
const commands: Record<string, () => Promise<(args: string[]) => Promise<number>>> = {
  up: async () => (await import("./commands/up.ts")).up,
  test: async () => (await import("./commands/test.ts")).test,
  bench: async () => (await import("./commands/bench.ts")).bench,
  footfall: async () => (await import("./commands/footfall.ts")).footfall,
  clean: async () => (await import("./commands/clean.ts")).clean,
};

const [name = "", ...args] = process.argv.slice(2);
await runCommand(async () => {
  const load = commands[name];
  if (!load) throw new Error(`the file dev knows a command ${name} that scripts/dev.ts does not`);
  return (await load())(args);
});
