import { mkdirSync } from "node:fs";
import { onCleanup } from "./cleanup.ts";
import { refuse, say } from "./messages.ts";
import { rememberedPort } from "./postgres/private.ts";
import { stopStranger } from "./processes.ts";
import { createRedisServer, findRedis } from "./redis.ts";
import { forget, inState, readNumber, writeState } from "./state.ts";
import { isPortFree } from "./waiting.ts";

const STOP_MS = 5_000;
const FIRST_PORT = 6400;
/** As docker/compose.yaml has them; docs/limits.md says why. */
export const SETTINGS = { maxmemory: "256mb", "maxmemory-policy": "volatile-lru", "maxmemory-samples": "10" };

/** Starts it until cleanup(); answers its URL. */
export async function startPrivateRedis(): Promise<string> {
  await stopPrivateRedis();
  const binary = findRedis() ?? refuse("redis-server not found.");
  const directory = inState("redis");
  mkdirSync(directory, { recursive: true });
  for (;;) {
    const port = rememberedPort("redis", FIRST_PORT);
    say(`starting Redis on port ${port}`);
    // When we die, the kernel asks it to shut down.
    const redis = createRedisServer({
      binary,
      directory,
      port,
      settings: SETTINGS,
      onParentDeath: "TERM",
    });
    onCleanup(() => redis.stop());
    try {
      await redis.start();
      writeState("redis.pid", `${redis.pid}`);
      return `redis://127.0.0.1:${port}`;
    } catch (error) {
      // Somebody may take the port between our look and its start.
      if (isPortFree(port)) refuse((error as Error).message.trim());
    }
  }
}

/** Stops the one that an earlier ./dev left behind. */
export async function stopPrivateRedis(): Promise<void> {
  const [pid, port] = [readNumber("redis.pid"), readNumber("redis.port")];
  if (pid !== null && port !== null) await stopStranger(pid, `127.0.0.1:${port}`, { graceMs: STOP_MS });
  forget("redis.pid");
}
