import { bodyLimit } from "hono/body-limit";
import { secureHeaders } from "hono/secure-headers";
import { AppError } from "./core/errors.ts";
import type { AnalyticsService } from "./features/analytics/index.ts";
import { createAnalyticsRoutes } from "./features/analytics/routes.ts";
import type { EventsService } from "./features/events/index.ts";
import { createEventRoutes } from "./features/events/routes.ts";
import type { IdentityService } from "./features/identity/index.ts";
import { createIdentityRoutes } from "./features/identity/routes.ts";
import type { RollupService } from "./features/rollups/index.ts";
import { createQueueRoutes } from "./features/rollups/routes.ts";
import type { SystemService } from "./features/system/index.ts";
import { createSystemRoutes } from "./features/system/routes.ts";
import { addDocs } from "./http/docs.ts";
import { allowedMethods } from "./http/methods.ts";
import { authenticate, type VerifyCredential } from "./http/middleware/authenticate.ts";
import { observe } from "./http/middleware/observe.ts";
import { requestId } from "./http/middleware/request-id.ts";
import { problem, problemOf } from "./http/problem.ts";
import { createRouter } from "./http/router.ts";
import type { Log } from "./telemetry/log.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** What the HTTP application is made of. Nothing here does I/O on its own, so tests may pass any of it. */
export interface AppDeps {
  log: Log;
  metrics: Metrics;
  verifyCredential: VerifyCredential;
  identity: IdentityService;
  events: EventsService;
  rollups: RollupService;
  analytics: AnalyticsService;
  system: SystemService;
}

export interface AppOptions {
  version: string;
  maxBodyBytes: number;
  maxBulkBytes: number;
}

const PREFIX = "/api";
const BULK_PATH = "/events/bulk";

export function createApp(deps: AppDeps, options: AppOptions) {
  const { log, metrics } = deps;
  const app = createRouter({ getPath: routedPath });

  app.use(requestId());
  app.use(observe(metrics, log));
  app.use(secureHeaders());
  app.use(limitBody(options));
  app.use(authenticate(deps.verifyCredential));

  app.route("/", createSystemRoutes(deps.system, metrics));
  app.route("/", createIdentityRoutes(deps.identity));
  app.route("/", createEventRoutes(deps.events, options));
  app.route("/", createAnalyticsRoutes(deps.analytics));
  app.route("/", createQueueRoutes(deps.rollups));
  addDocs(app, options.version);
  app.get("/", (c) => c.redirect("/docs"));

  app.onError((error, c) => problemOf(error, c, log));
  app.notFound((c) => {
    const allow = allowedMethods(app, c.req.path);
    if (allow.length === 0) return problem(c, new AppError("not_found", "There is no such route."));
    const headers = { allow: allow.join(", ") };
    return problem(c, new AppError("method_not_allowed", `This route takes ${headers.allow}.`, { headers }));
  });
  return app;
}

/** Every route is served at the root and, identically, under /api. */
function routedPath(request: Request): string {
  const { url } = request;
  const start = url.indexOf("/", 8);
  const end = url.slice(start).search(/[?#]/);
  const path = end === -1 ? url.slice(start) : url.slice(start, start + end);
  return path === PREFIX || path.startsWith(`${PREFIX}/`) ? path.slice(PREFIX.length) || "/" : path;
}

function limitBody({ maxBodyBytes, maxBulkBytes }: AppOptions) {
  const onError = () => {
    throw new AppError("too_large", "The body is larger than this route takes.");
  };
  const single = bodyLimit({ maxSize: maxBodyBytes, onError });
  const bulk = bodyLimit({ maxSize: maxBulkBytes, onError });
  return (...[c, next]: Parameters<typeof single>) =>
    c.req.path === BULK_PATH ? bulk(c, next) : single(c, next);
}
