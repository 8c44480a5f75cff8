import { environment } from "../environment.ts";
import { ROOT, sourceCommand } from "../program.ts";
import { loadSettings, rememberedServers } from "../settings.ts";

/** The program on our terminal, with the servers of a running `./dev up`. */
export async function footfall(args: string[]): Promise<number> {
  const child = Bun.spawn(sourceCommand(args), {
    cwd: ROOT,
    env: environment({ ...rememberedServers(), ...loadSettings() }),
    stdio: ["inherit", "inherit", "inherit"],
  });
  return waitFor(child);
}

/**
 * To the end of a child that shares our terminal: it gets Ctrl-C itself, and other signals from us.
 */
export async function waitFor(child: Bun.Subprocess): Promise<number> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.removeAllListeners(signal);
    process.on(signal, () => child.kill(signal));
  }
  return child.exited;
}
