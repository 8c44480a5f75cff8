import { createApp } from "./app.ts";
import type { Config } from "./config.ts";
import { closeDeps, createDeps, type Deps } from "./deps.ts";
import { DEFAULT_TENANT } from "./features/identity/index.ts";
import { waitUntilReady } from "./redis/client.ts";
import { VERSION } from "./version.ts";

export interface Running {
  url: string;
  stop(): Promise<void>;
}

/** Bodies beyond the routes' own limits are cut off here, before they are buffered. */
const SERVER_LIMIT_FACTOR = 4;
const REDIS_WAIT_MS = 1_000;

/** The API process: config -> deps -> app -> Bun.serve. `stop` lets running requests finish, then closes everything. */
export async function startApi(config: Config, shared?: Deps): Promise<Running> {
  const deps = shared ?? createDeps(config, "api");
  const { log } = deps;
  if (config.admin) await deps.identity.ensureAdmin({ ...config.admin, tenantSlug: DEFAULT_TENANT });
  if (!(await waitUntilReady(deps.redis, REDIS_WAIT_MS)))
    log.warn("redis does not answer: serving without cache and announcements");
  const app = createApp(deps, { ...config, version: VERSION });
  const server = Bun.serve({
    hostname: config.host,
    port: config.port,
    maxRequestBodySize: config.maxBulkBytes * SERVER_LIMIT_FACTOR,
    fetch: app.fetch,
  });
  const url = `http://${config.host === "0.0.0.0" ? "127.0.0.1" : config.host}:${server.port}`;
  log.info({ url, version: VERSION }, "api started");
  return {
    url,
    async stop() {
      // Finishes running requests; whoever takes longer than the grace is cut off.
      await Promise.race([server.stop(), Bun.sleep(config.shutdownGraceMs)]);
      await server.stop(true);
      if (!shared) await closeDeps(deps);
      log.info("api stopped");
    },
  };
}
