import net from "node:net";
import { onCleanup } from "../scripts/cleanup.ts";

export interface SilentProxy {
  /** Of the same database, through the proxy. */
  readonly url: string;
  /**
   * From now on nobody receives anything on the open connections. They stay open, and what clients
   * send still arrives.
   */
  silence(): void;
  /** Also those that are opened from now on, until `accept`. */
  silenceAll(): void;
  accept(): void;
}

/** A proxy before Postgres that loses connections as a failed host does: silently. */
export async function startSilentProxy(target: string): Promise<SilentProxy> {
  const { hostname, port } = new URL(target);
  const pairs = new Set<{ silent: boolean; client: net.Socket; server: net.Socket }>();
  let silentFromNow = false;
  const listener = net.createServer((client) => {
    const server = net.connect(Number(port), hostname);
    const pair = { silent: silentFromNow, client, server };
    pairs.add(pair);
    client.on("data", (data) => server.write(data));
    server.on("data", (data) => pair.silent || client.write(data));
    client.on("close", () => {
      pairs.delete(pair);
      server.destroy();
    });
    server.on("close", () => pair.silent || client.destroy());
    for (const socket of [client, server]) socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  onCleanup(async () => {
    listener.close();
    for (const { client } of pairs) client.destroy();
  });

  const url = new URL(target);
  url.hostname = "127.0.0.1";
  url.port = String((listener.address() as net.AddressInfo).port);
  const silence = () => {
    for (const pair of pairs) pair.silent = true;
  };
  return {
    url: url.href,
    silence,
    silenceAll() {
      silentFromNow = true;
      silence();
    },
    accept() {
      silentFromNow = false;
    },
  };
}
