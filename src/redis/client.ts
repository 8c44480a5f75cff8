import { Redis, type RedisOptions } from "ioredis";
import type { Log } from "../telemetry/log.ts";

/**
 * Connections by purpose. RESP2 is pinned, so that the shapes of replies don't depend on the server
 * (ioredis 6 prefers RESP3). Nothing on the request path waits for Redis: no offline queue, one
 * try, a short command timeout.
 */
export interface RedisFactory {
  /** For the request path and for short commands: fails at once when Redis is away. */
  command(name: string): Redis;
  /** For one blocking stream reader; `blockMs` is the longest BLOCK it will use. */
  blocking(name: string, blockMs: number): Redis;
  /** For pub/sub. Its user subscribes again whenever it becomes ready. */
  subscriber(name: string): Redis;
}

const COMMAND_TIMEOUT_MS = 500;
/**
 * A blocked read that has not returned this long after its BLOCK ended is hung, not idle (ioredis
 * #1888).
 */
const HUNG_AFTER_MS = 3_000;
const MAX_RECONNECT_DELAY_MS = 1_000;

export function createRedisFactory(url: string, log: Log): RedisFactory {
  const open = (name: string, commandTimeout: number, options: RedisOptions = {}): Redis => {
    const client = new Redis(url, {
      connectionName: `footfall:${name}`,
      protocol: 2,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 1,
      connectTimeout: 2_000,
      commandTimeout,
      // Commands of one turn of the event loop share a round trip. Not with Cluster, whose slots
      // they would cross.
      enableAutoPipelining: true,
      ...options,
      retryStrategy: (attempt) => Math.min(50 * attempt, MAX_RECONNECT_DELAY_MS),
    });
    let down = false;
    client.on("error", (error: Error) => {
      if (!down) log.warn({ connection: name, error: error.message }, "redis connection lost");
      down = true;
    });
    client.on("ready", () => {
      if (down) log.info({ connection: name }, "redis connection is back");
      down = false;
    });
    return client;
  };
  return {
    command: (name) => open(name, COMMAND_TIMEOUT_MS),
    blocking: (name, blockMs) => open(name, blockMs + HUNG_AFTER_MS),
    subscriber: (name) =>
      open(name, COMMAND_TIMEOUT_MS, { autoResubscribe: false, enableAutoPipelining: false }),
  };
}

/** Resolves once the client can take commands, or after `timeoutMs` in any case. */
export async function waitUntilReady(client: Redis, timeoutMs: number): Promise<boolean> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await Bun.sleep(20)) {
    if (client.status === "ready") return true;
  }
  return client.status === "ready";
}
