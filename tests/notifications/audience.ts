/**
 * Many clients of an event stream, as a program of its own: `bun audience.ts <url> <key> <count>`. Prints "open" when all have
 * their answer, then for every event the moment (epoch ms) at which the last client had it: `<id> <clients> <ms>`. A line "leave"
 * on its input closes the first half properly and exits without a word to the others, like a machine that is switched off.
 */
import { connect, type Socket } from "node:net";

const [url = "", key = "", count = "0"] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const CLIENTS = Number(count);
/** Connections that are being made at the same time. */
const AT_ONCE = 100;

const sockets: Socket[] = [];
const seen = new Map<string, number>();
const request = `GET /events/stream HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${key}\r\n\r\n`;

function note(id: string): void {
  const clients = (seen.get(id) ?? 0) + 1;
  seen.set(id, clients);
  if (clients === CLIENTS) console.log(`${id} ${clients} ${Date.now()}`);
}

function join(): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(request));
    sockets.push(socket);
    let rest = "";
    socket.setEncoding("latin1");
    socket.on("error", reject);
    socket.on("data", (chunk: string) => {
      rest += chunk;
      if (rest.startsWith("HTTP/1.1 ")) {
        if (!rest.includes("retry:")) return;
        if (!rest.startsWith("HTTP/1.1 200")) reject(new Error(rest));
        resolve();
      }
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.startsWith("id: ")) note(line.slice(4).trim());
    });
  });
}

for (let n = 0; n < CLIENTS; n += AT_ONCE)
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, CLIENTS - n) }, join));
console.log("open");

for await (const line of console) {
  if (line !== "leave") continue;
  for (const socket of sockets.slice(0, CLIENTS / 2)) socket.end();
  await Bun.sleep(50);
  process.kill(process.pid, "SIGKILL");
}
