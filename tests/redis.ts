import { connect } from "node:net";
import { guarded, onCleanup, signalProcess, temporaryDirectory, trackProcess } from "./cleanup.ts";
import { eventually, freePort } from "./waiting.ts";

export interface TestRedis {
  readonly url: string;
  readonly port: number;
  /** The pid of the running server; another one after start(). */
  readonly pid: number;
  /** Graceful; nothing is saved, so a start() afterwards finds it empty. */
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
  const binary = process.env.REDIS_SERVER_BIN || Bun.which("redis-server") || Bun.which("valkey-server");
  if (!binary)
    throw new Error("redis-server is not installed: run ./dev test, which installs it or says how.");
  const port = freePort();
  const directory = temporaryDirectory("redis");
  const options = {
    port: String(port),
    bind: "127.0.0.1",
    save: "",
    appendonly: "no",
    dir: directory,
    ...settings,
  };
  const command = [binary, ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])];

  const launch = async () => {
    const child = Bun.spawn(guarded(command), { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    trackProcess(child);
    // Read on, or a full pipe would block the server.
    const log = new Response(child.stdout).text();
    await eventually(async () => child.exitCode !== null || (await answersPing(port)), { intervalMs: 10 });
    if (child.exitCode !== null) throw new Error(`redis-server did not start on port ${port}.\n${await log}`);
    return child;
  };
  let child = await launch();
  const end = async (signal: NodeJS.Signals) => {
    signalProcess(child.pid, signal);
    // A paused server would take the signal only after it is resumed.
    signalProcess(child.pid, "SIGCONT");
    await child.exited;
  };
  onCleanup(() => end("SIGKILL"));

  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return child.pid;
    },
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    async start() {
      child = await launch();
    },
    pause: () => void signalProcess(child.pid, "SIGSTOP"),
    resume: () => void signalProcess(child.pid, "SIGCONT"),
  };
}

function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(500, () => settle(false));
    socket.on("error", () => settle(false));
    socket.on("connect", () => socket.write("PING\r\n"));
    socket.on("data", (data) => settle(data.toString().startsWith("+PONG")));
  });
}
