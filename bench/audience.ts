import { connect, type Socket } from "node:net";

/**
 * Many clients of the event stream in a process of their own:
 * `bun bench/audience.ts <url> <key> <count>`. It prints "open" when all have their answer, and
 * `<id> <epoch ms>` for each event when the last client has it. Told to leave, it closes the
 * connections of one half and then dies by SIGKILL, so the others vanish without closing.
 */
export interface Audience {
  /** When every client had the nth event since the start, counted from 0; undefined before that. */
  completeAtMs(n: number): number | undefined;
  vanish(): Promise<void>;
  child: Bun.Subprocess;
}

/** Connections that are being made at the same time. */
const AT_ONCE = 100;
const LEAVE = "leave";
const OPEN = "open";

/** Resolves when all are connected. `wrap` changes the command line. */
export async function startAudience(
  url: string,
  key: string,
  count: number,
  wrap = (command: string[]) => command,
): Promise<Audience> {
  const child = Bun.spawn(wrap([process.execPath, import.meta.path, url, key, String(count)]), {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const moments: number[] = [];
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  void (async () => {
    let rest = "";
    for await (const chunk of child.stdout) {
      const lines = (rest + Buffer.from(chunk).toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === OPEN) resolve();
        else moments.push(Number(line.split(" ")[1]));
      }
    }
    reject(new Error("the audience ended before it was there"));
  })();
  await opened;
  return {
    child,
    completeAtMs: (n) => moments[n],
    async vanish() {
      child.stdin.write(`${LEAVE}\n`);
      child.stdin.flush();
      await child.exited;
    },
  };
}

/**
 * One client. Resolves when its stream has begun, and reports the ids of the events that arrive.
 */
function join(url: URL, key: string, note: (id: string) => void): Promise<Socket> {
  const request = `GET /events/stream HTTP/1.1\r\nHost: ${url.host}\r\nAuthorization: Bearer ${key}\r\n\r\n`;
  return new Promise((resolve, reject) => {
    const socket = connect(Number(url.port), url.hostname, () => socket.write(request));
    let rest = "";
    socket.setEncoding("latin1");
    socket.on("error", reject);
    socket.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("HTTP/1.1 ") && !line.startsWith("HTTP/1.1 200")) reject(new Error(line));
        if (line.startsWith("retry: ")) resolve(socket);
        if (line.startsWith("id: ")) note(line.slice(4).trim());
      }
    });
  });
}

async function attend(url: URL, key: string, count: number): Promise<void> {
  const seen = new Map<string, number>();
  const note = (id: string) => {
    const clients = (seen.get(id) ?? 0) + 1;
    seen.set(id, clients);
    if (clients === count) console.log(`${id} ${Date.now()}`);
  };
  const sockets: Socket[] = [];
  for (let n = 0; n < count; n += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - n) }, () => join(url, key, note));
    sockets.push(...(await Promise.all(some)));
  }
  console.log(OPEN);
  for await (const line of console) {
    if (line !== LEAVE) continue;
    for (const socket of sockets.slice(0, count / 2)) socket.end();
    // Time for the goodbyes to leave.
    await Bun.sleep(50);
    process.kill(process.pid, "SIGKILL");
  }
}

if (import.meta.main) {
  const [url = "", key = "", count = "0"] = process.argv.slice(2);
  await attend(new URL(url), key, Number(count));
}
