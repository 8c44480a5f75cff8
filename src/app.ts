import { bodyLimit } from "hono/body-limit";
import { AppError } from "./core/errors.ts";
import type { RatePolicies } from "./core/rate-limits.ts";
import type { AnalyticsService } from "./features/analytics/index.ts";
import { createAnalyticsRoutes } from "./features/analytics/routes.ts";
import type { AuditService } from "./features/audit/index.ts";
import { createAuditRoutes } from "./features/audit/routes.ts";
import type { CachingService } from "./features/caching/index.ts";
import { createCachingRoutes } from "./features/caching/routes.ts";
import type { CatalogueImportService } from "./features/catalogue-import/index.ts";
import { createCatalogueImportRoutes } from "./features/catalogue-import/routes.ts";
import type { EventsService } from "./features/events/index.ts";
import { createEventRoutes } from "./features/events/routes.ts";
import type {
  ApiKeysService,
  IdentityService,
  InvitationsService,
  MembersService,
  PasswordsService,
  TenantService,
} from "./features/identity/index.ts";
import { createPasswordRoutes } from "./features/identity/passwords/routes.ts";
import { createIdentityRoutes } from "./features/identity/routes.ts";
import type { NotificationsService } from "./features/notifications/index.ts";
import { createNotificationRoutes } from "./features/notifications/routes.ts";
import type { OrdersService, PurchasesService } from "./features/orders/index.ts";
import { createOrderRoutes } from "./features/orders/routes.ts";
import type { ProductsService } from "./features/products/index.ts";
import { createProductRoutes } from "./features/products/routes.ts";
import type { QueueService } from "./features/queue/index.ts";
import { createQueueRoutes } from "./features/queue/routes.ts";
import type { EventVoids, PropertiesService, SessionLinks } from "./features/rollups/index.ts";
import { createPropertyRoutes, createStoredEventRoutes } from "./features/rollups/routes.ts";
import type { SystemService } from "./features/system/index.ts";
import { createSystemRoutes } from "./features/system/routes.ts";
import type { WebhooksService } from "./features/webhooks/index.ts";
import { createWebhookRoutes } from "./features/webhooks/routes.ts";
import { addDocs } from "./http/docs.ts";
import { createDownloads } from "./http/download.ts";
import { allowedMethods } from "./http/methods.ts";
import { authenticate, type VerifyCredential } from "./http/middleware/authenticate.ts";
import { createBadCredentials } from "./http/middleware/bad-credentials.ts";
import { clientAddress } from "./http/middleware/client-address.ts";
import { createRequestDeadline, deadline } from "./http/middleware/deadline.ts";
import { observe } from "./http/middleware/observe.ts";
import { allowOrigins } from "./http/middleware/origins.ts";
import { protectBrowsers } from "./http/middleware/protect-browsers.ts";
import { createDecide, createRateLimits } from "./http/middleware/rate-limit.ts";
import { requestId } from "./http/middleware/request-id.ts";
import { createLoadShedding } from "./http/middleware/shed-load.ts";
import { problem, problemOf } from "./http/problem.ts";
import { createRouter } from "./http/router.ts";
import { createSseStreams } from "./http/sse.ts";
import type { RateCounters } from "./redis/rate-limit.ts";
import type { LoadMonitor } from "./resilience/load-level.ts";
import type { ReadGuard } from "./resilience/read-guard.ts";
import type { Log } from "./telemetry/log.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/**
 * What the HTTP application is made of. Nothing here does I/O by itself, so tests may pass any of
 * it.
 */
export interface AppDeps {
  log: Log;
  metrics: Metrics;
  verifyCredential: VerifyCredential;
  rateCounters: RateCounters;
  load: LoadMonitor;
  readGuard: Pick<ReadGuard, "giveWay">;
  identity: IdentityService;
  apiKeys: ApiKeysService;
  invitations: InvitationsService;
  members: MembersService;
  passwords: PasswordsService;
  tenant: TenantService;
  audit: AuditService;
  products: ProductsService;
  events: EventsService;
  catalogueImports: CatalogueImportService;
  sessionLinks: SessionLinks;
  eventVoids: EventVoids;
  properties: PropertiesService;
  purchases: PurchasesService;
  orders: OrdersService;
  queue: QueueService;
  analytics: AnalyticsService;
  caching: CachingService;
  notifications: NotificationsService;
  webhooks: WebhooksService;
  system: SystemService;
}

export interface AppOptions {
  version: string;
  maxBodyBytes: number;
  maxBulkBytes: number;
  importMaxBytes: number;
  corsOrigins: readonly string[];
  trustedProxies: readonly string[];
  rateLimits: RatePolicies;
  requestTimeoutMs: number;
  sseMaxConnections: number;
  sseMaxConnectionsPerTenant: number;
  exportMaxConnections: number;
  exportMaxConnectionsPerTenant: number;
  exportStallMs: number;
  /** Aborted when the process begins to stop: event streams end then. */
  stopping?: AbortSignal;
}

const PREFIX = "/api";
const EVENTS_PATH = "/events";
const BULK_PATH = "/events/bulk";
/** Limited and cut off by how its bytes flow, see http/upload.ts. */
const IMPORT_PATH = "/products/import";
/** Routes that read their bodies themselves limit them, too; doing it twice costs every event. */
const OWN_LIMITS = new Set([EVENTS_PATH, BULK_PATH, IMPORT_PATH]);

export function createApp(deps: AppDeps, options: AppOptions) {
  const { log, metrics } = deps;
  const app = createRouter({ getPath: routedPath });
  const { badCredentials: badPolicy } = options.rateLimits;
  const badCredentials =
    badPolicy && createBadCredentials(badPolicy, createDecide({ counters: deps.rateCounters, metrics }));
  const rateLimits = createRateLimits({
    policies: options.rateLimits,
    counters: deps.rateCounters,
    metrics,
  });
  const inTime = createRequestDeadline(options.requestTimeoutMs);
  const loadShedding = createLoadShedding(deps.load, deps.readGuard, metrics);
  const streams = createSseStreams({
    maxPerProcess: options.sseMaxConnections,
    maxPerTenant: options.sseMaxConnectionsPerTenant,
    metrics,
    log,
    stopping: options.stopping,
  });

  const downloads = createDownloads({
    maxPerProcess: options.exportMaxConnections,
    maxPerTenant: options.exportMaxConnectionsPerTenant,
    stallMs: options.exportStallMs,
    metrics,
    log,
  });

  app.use(requestId());
  app.use(observe(metrics, log));
  app.use(protectBrowsers());
  const timeLimit = deadline(inTime, EVENTS_PATH);
  app.use((c, next) => (c.req.path === IMPORT_PATH ? next() : timeLimit(c, next)));
  app.use(allowOrigins(options.corsOrigins));
  app.use(limitBody(options));
  app.use(authenticate(deps.verifyCredential, badCredentials));
  app.use(clientAddress(options.trustedProxies));
  app.use((c, next) => {
    c.set("rateLimits", rateLimits);
    c.set("loadShedding", loadShedding);
    return next();
  });

  app.route("/", createSystemRoutes(deps.system, metrics));
  app.route("/", createIdentityRoutes(deps));
  app.route("/", createPasswordRoutes(deps.passwords));
  app.route("/", createAuditRoutes(deps.audit));
  // Before /products/{id}, which takes every word.
  app.route("/", createCatalogueImportRoutes(deps.catalogueImports, downloads, options));
  app.route("/", createProductRoutes(deps.products));
  // Before /events/{id}.
  app.route("/", createNotificationRoutes(deps.notifications, streams));
  app.route("/", createEventRoutes(deps.events, downloads, { ...options, inTime }));
  app.route("/", createAnalyticsRoutes(deps.analytics, streams));
  app.route("/", createStoredEventRoutes(deps.sessionLinks, deps.eventVoids));
  app.route("/", createPropertyRoutes(deps.properties));
  app.route("/", createCachingRoutes(deps.caching));
  app.route("/", createWebhookRoutes(deps.webhooks));
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
  // Without a usable Host (HTTP/1.0), all that Bun knows of the URL is the path.
  const start = url.startsWith("/") ? 0 : url.indexOf("/", 8);
  const end = url.slice(start).search(/[?#]/);
  const path = end === -1 ? url.slice(start) : url.slice(start, start + end);
  return path === PREFIX || path.startsWith(`${PREFIX}/`) ? path.slice(PREFIX.length) || "/" : path;
}

/**
 * Routes that read their bodies themselves also limit them. Doing it twice would cost every event.
 */
function limitBody({ maxBodyBytes }: AppOptions) {
  const limit = bodyLimit({
    maxSize: maxBodyBytes,
    onError: () => {
      throw new AppError("too_large", "The body is larger than this route takes.");
    },
  });
  return (...[c, next]: Parameters<typeof limit>) => (OWN_LIMITS.has(c.req.path) ? next() : limit(c, next));
}
