import { connect } from "node:net";
import { join } from "node:path";
import { setting } from "./environment.ts";
import { type Guard, guarded, hasEnded, stopChild, trackProcess } from "./processes.ts";
import { eventually } from "./waiting.ts";

const STOP_MS = 5_000;

export function findRedis(): string | null {
  return setting("REDIS_SERVER_BIN") ?? Bun.which("redis-server") ?? Bun.which("valkey-server");
}

export interface RedisServer {
  /** The pid of the running server; another one after a further start(). */
  readonly pid: number;
  /** Throws with its log when it does not start. */
  start(): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface RedisOptions {
  binary: string;
  directory: string;
  port: number;
  /** As in redis.conf, e.g. `{ maxmemory: "8mb" }`. */
  settings?: Record<string, string>;
  onParentDeath?: Guard["onParentDeath"];
}

/** Nothing is written to disk: Redis only makes things fast, Postgres is the truth. */
export function createRedisServer({
  binary,
  directory,
  port,
  settings,
  onParentDeath,
}: RedisOptions): RedisServer {
  const logFile = join(directory, "redis.log");
  const options = {
    port: `${port}`,
    bind: "127.0.0.1",
    save: "",
    appendonly: "no",
    dir: directory,
    ...settings,
  };
  const command = [binary, ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])];
  let child: Bun.Subprocess | null = null;

  return {
    get pid() {
      return child?.pid ?? 0;
    },
    async start() {
      const server = Bun.spawn(guarded(command, { onParentDeath }), {
        stdin: "ignore",
        stdout: Bun.file(logFile),
        stderr: "ignore",
        // Ctrl-C is for us, who stop the parts in order.
        detached: true,
      });
      child = server;
      trackProcess(server);
      // Another Redis may answer on this port. Ours is the one that reports our child's pid.
      const ready = async () => (await askInfo(port)).includes(`process_id:${server.pid}\r\n`);
      await eventually(async () => hasEnded(server) || (await ready()), { intervalMs: 10 });
      if (hasEnded(server))
        throw new Error(`redis-server did not start on port ${port}.\n${await Bun.file(logFile).text()}`);
    },
    async stop(signal = "SIGTERM") {
      if (child) await stopChild(child, { signal, graceMs: STOP_MS });
    },
  };
}

/** What the Redis on this port says about itself; empty when none answers. */
function askInfo(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    const settle = (answer: string) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(500, () => settle(""));
    socket.on("error", () => settle(""));
    socket.on("connect", () => socket.write("INFO server\r\n"));
    socket.on("data", (data) => settle(data.toString()));
  });
}
