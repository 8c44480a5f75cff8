import { onCleanup } from "../scripts/cleanup.ts";
import { signalProcess } from "../scripts/processes.ts";
import { createRedisServer, findRedis } from "../scripts/redis.ts";
import { freePort } from "../scripts/waiting.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

export interface TestRedis {
  readonly url: string;
  readonly port: number;
  /** The pid of the running server; another one after start(). */
  readonly pid: number;
  /** Graceful. Nothing is saved, so a later start() finds it empty. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Again, on the same port, after stop() or kill(). */
  start(): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void;
  resume(): void;
}

/** Starts a redis-server of its own. `settings` as in redis.conf, e.g. `{ maxmemory: "8mb" }`. */
export async function startRedis({
  settings = {},
}: {
  settings?: Record<string, string>;
} = {}): Promise<TestRedis> {
  const binary = findRedis();
  if (!binary)
    throw new Error("redis-server is not installed: run ./dev test, which installs it or says how.");
  const port = freePort();
  const server = createRedisServer({ binary, directory: temporaryDirectory("redis"), port, settings });
  await server.start();
  onCleanup(() => server.stop("SIGKILL"));

  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return server.pid;
    },
    stop: () => server.stop(),
    kill: () => server.stop("SIGKILL"),
    start: () => server.start(),
    pause: () => void signalProcess(server.pid, "SIGSTOP"),
    resume: () => void signalProcess(server.pid, "SIGCONT"),
  };
}
