import { createApp } from "./app.ts";
import type { Config } from "./config.ts";
import { AppError } from "./core/errors.ts";
import { closeDeps, createDeps, type Deps } from "./deps.ts";
import { DEFAULT_TENANT } from "./features/identity/index.ts";
import { waitUntilReady } from "./redis/client.ts";
import { findMemoryRisk } from "./redis/memory-limit.ts";
import { VERSION } from "./version.ts";

export interface Running {
  url: string;
  stop(): Promise<void>;
}

/**
 * None: the routes' own limits answer with a problem, and Bun leaves in the socket what nobody
 * reads.
 */
const MAX_BODY_BYTES = Number.MAX_SAFE_INTEGER;
/**
 * Longer than any statement may run: Bun closes a connection that is silent for so long, answered
 * or not.
 */
const IDLE_TIMEOUT_SECONDS = 75;
const REDIS_WAIT_MS = 1_000;
/**
 * How long a stopping process answers with `Connection: close` and tells load balancers that it is
 * not ready.
 */
const LEAVE_MS = 500;

/**
 * The API process: config -> deps -> app -> Bun.serve. `stop` lets running requests finish, then
 * closes everything.
 */
export async function startApi(config: Config, shared?: Deps): Promise<Running> {
  const deps = shared ?? createDeps(config, "api");
  const { log } = deps;
  if (config.admin) await ensureFirstAdmin(deps, config.admin);
  if (!(await waitUntilReady(deps.redis, REDIS_WAIT_MS)))
    log.warn("redis does not answer: serving without cache and announcements");
  const risk = await findMemoryRisk(deps.redis);
  if (risk !== null) log.warn(risk);
  const stopping = new AbortController();
  const app = createApp(deps, { ...config, version: VERSION, stopping: stopping.signal });
  deps.load.start();
  const server = Bun.serve({
    hostname: config.host,
    port: config.port,
    maxRequestBodySize: MAX_BODY_BYTES,
    idleTimeout: IDLE_TIMEOUT_SECONDS,
    fetch: (request, bunServer) =>
      stopping.signal.aborted
        ? lastOnConnection(app.fetch(request, bunServer))
        : app.fetch(request, bunServer),
  });
  const url = `http://${config.host === "0.0.0.0" ? "127.0.0.1" : config.host}:${server.port}`;
  log.info({ url, version: VERSION }, "api started");
  return {
    url,
    async stop() {
      // Bun resets kept-alive connections when it stops, so clients are told to leave them first.
      // Event streams, which would never finish, end here.
      stopping.abort();
      deps.system.announceStop();
      await Bun.sleep(Math.min(LEAVE_MS, config.shutdownGraceMs));
      // Finishes running requests. Those that take longer than the grace are ended.
      await Promise.race([server.stop(), Bun.sleep(config.shutdownGraceMs)]);
      await server.stop(true);
      deps.load.stop();
      if (!shared) await closeDeps(deps, config.shutdownGraceMs);
      log.info("api stopped");
    },
  };
}

async function lastOnConnection(answer: Response | Promise<Response>): Promise<Response> {
  const response = await answer;
  response.headers.set("connection", "close");
  return response;
}

/**
 * Somebody else may have registered this account, so starting the program does not make it an
 * admin.
 */
async function ensureFirstAdmin(
  { identity, log }: Deps,
  admin: { email: string; password: string },
): Promise<void> {
  try {
    await identity.ensureAdmin({ ...admin, tenant: DEFAULT_TENANT });
  } catch (error) {
    if (!(error instanceof AppError && error.code === "conflict")) throw error;
    log.warn({ reason: error.message }, "ADMIN_EMAIL was not made an admin");
  }
}
