import { bodyLimit } from "hono/body-limit";
import { etag } from "hono/etag";
import { AppError } from "./core/errors.ts";
import type { RatePolicies } from "./core/rate-limits.ts";
import type { AnalyticsService } from "./features/analytics/index.ts";
import { createAnalyticsRoutes } from "./features/analytics/routes.ts";
import type { AuditService } from "./features/audit/index.ts";
import { createAuditRoutes } from "./features/audit/routes.ts";
import type { EventsService } from "./features/events/index.ts";
import { createEventRoutes } from "./features/events/routes.ts";
import type {
  ApiKeysService,
  IdentityService,
  MembersService,
  TenantService,
} from "./features/identity/index.ts";
import { createIdentityRoutes } from "./features/identity/routes.ts";
import type { OrdersService, PurchasesService } from "./features/orders/index.ts";
import { createOrderRoutes } from "./features/orders/routes.ts";
import type { QueueService } from "./features/queue/index.ts";
import { createQueueRoutes } from "./features/queue/routes.ts";
import type { SystemService } from "./features/system/index.ts";
import { createSystemRoutes } from "./features/system/routes.ts";
import { addDocs } from "./http/docs.ts";
import { allowedMethods } from "./http/methods.ts";
import { authenticate, type VerifyCredential } from "./http/middleware/authenticate.ts";
import { clientAddress } from "./http/middleware/client-address.ts";
import { deadline } from "./http/middleware/deadline.ts";
import { observe } from "./http/middleware/observe.ts";
import { allowOrigins } from "./http/middleware/origins.ts";
import { protectBrowsers } from "./http/middleware/protect-browsers.ts";
import { createRateLimits } from "./http/middleware/rate-limit.ts";
import { requestId } from "./http/middleware/request-id.ts";
import { problem, problemOf } from "./http/problem.ts";
import { createRouter } from "./http/router.ts";
import type { RateCounters } from "./redis/rate-limit.ts";
import type { Log } from "./telemetry/log.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** What the HTTP application is made of. Nothing here does I/O on its own, so tests may pass any of it. */
export interface AppDeps {
  log: Log;
  metrics: Metrics;
  verifyCredential: VerifyCredential;
  rateCounters: RateCounters;
  identity: IdentityService;
  apiKeys: ApiKeysService;
  members: MembersService;
  tenant: TenantService;
  audit: AuditService;
  events: EventsService;
  purchases: PurchasesService;
  orders: OrdersService;
  queue: QueueService;
  analytics: AnalyticsService;
  system: SystemService;
}

export interface AppOptions {
  version: string;
  maxBodyBytes: number;
  maxBulkBytes: number;
  corsOrigins: readonly string[];
  trustedProxies: readonly string[];
  rateLimits: RatePolicies;
}

const PREFIX = "/api";
const EVENTS_PATH = "/events";
const BULK_PATH = "/events/bulk";
/** Reads of one resource and of analytics: If-None-Match answers 304. */
const ETAGGED_PATHS = ["/analytics/*", "/events/:id", "/orders/:id", "/tenants/current", "/auth/me"];
const REQUEST_TIMEOUT_MS = 30_000;

export function createApp(deps: AppDeps, options: AppOptions) {
  const { log, metrics } = deps;
  const app = createRouter({ getPath: routedPath });
  const rateLimits = createRateLimits({
    policies: options.rateLimits,
    counters: deps.rateCounters,
    metrics,
  });

  app.use(requestId());
  app.use(observe(metrics, log));
  app.use(protectBrowsers());
  app.use(deadline(REQUEST_TIMEOUT_MS, EVENTS_PATH));
  app.use(allowOrigins(options.corsOrigins));
  app.use(limitBody(options));
  app.use(authenticate(deps.verifyCredential));
  app.use(clientAddress(options.trustedProxies));
  app.use((c, next) => {
    c.set("rateLimits", rateLimits);
    return next();
  });

  for (const path of ETAGGED_PATHS) app.use(path, etag());

  app.route("/", createSystemRoutes(deps.system, metrics));
  app.route("/", createIdentityRoutes(deps));
  app.route("/", createAuditRoutes(deps.audit));
  app.route("/", createEventRoutes(deps.events, options));
  app.route("/", createAnalyticsRoutes(deps.analytics));
  app.route("/", createOrderRoutes(deps));
  app.route("/", createQueueRoutes(deps.queue));
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

/** The routes that read their bodies themselves limit them, too; doing it twice costs every event. */
function limitBody({ maxBodyBytes }: AppOptions) {
  const limit = bodyLimit({
    maxSize: maxBodyBytes,
    onError: () => {
      throw new AppError("too_large", "The body is larger than this route takes.");
    },
  });
  return (...[c, next]: Parameters<typeof limit>) =>
    c.req.path === EVENTS_PATH || c.req.path === BULK_PATH ? next() : limit(c, next);
}
