import { createCache } from "./cache/cache.ts";
import { createInvalidator } from "./cache/invalidator.ts";
import { createCacheStats } from "./cache/stats.ts";
import type { Config } from "./config.ts";
import { withDeadline } from "./core/deadline.ts";
import type { RatePolicy } from "./core/rate-limits.ts";
import { createDatabase } from "./db/client.ts";
import { EventPartitions } from "./db/partitions.ts";
import { createAnalyticsService } from "./features/analytics/index.ts";
import { createAuditService } from "./features/audit/index.ts";
import { createCachingService } from "./features/caching/index.ts";
import { createCatalogueImportService, createRunNextImport } from "./features/catalogue-import/index.ts";
import { createEventsService, createEventWriter } from "./features/events/index.ts";
import { createIdempotency } from "./features/idempotency/index.ts";
import {
  createAccessTokens,
  createApiKeysService,
  createCredentialVerifier,
  createIdentityService,
  createInvitationsService,
  createInvitationTokens,
  createMembersService,
  createPasswordsService,
  createSignInDelays,
  createTenantService,
  createTenantSettingsReader,
  createTimeZones,
} from "./features/identity/index.ts";
import { createNotificationsService } from "./features/notifications/index.ts";
import {
  createOrderHandling,
  createOrderQueue,
  createOrdersService,
  createPurchasesService,
  whySaleIsKept,
} from "./features/orders/index.ts";
import { createOutboxService } from "./features/outbox/index.ts";
import { createPriceLookUp, createProductsService } from "./features/products/index.ts";
import { createQueueService } from "./features/queue/index.ts";
import {
  createEventVoids,
  createPropertiesService,
  createPropertyFills,
  createReturnsFolder,
  createRollupRetries,
  createRollupService,
  createSessionLinks,
} from "./features/rollups/index.ts";
import { createSystemService } from "./features/system/index.ts";
import {
  createAddressGuard,
  createWebhookDeliveries,
  createWebhooksService,
  resolveBySystem,
} from "./features/webhooks/index.ts";
import { createMailer } from "./mail/mailer.ts";
import { createRedisFactory } from "./redis/client.ts";
import { createLocalRateCounter, createRedisRateCounter } from "./redis/rate-limit.ts";
import { createLoadMonitor } from "./resilience/load-level.ts";
import { createReadGuard } from "./resilience/read-guard.ts";
import { createRedisGuard } from "./resilience/redis-guard.ts";
import { createAnnouncer } from "./streams/producer.ts";
import { createLog } from "./telemetry/log.ts";
import { createMetrics } from "./telemetry/metrics.ts";
import { VERSION } from "./version.ts";

/**
 * Under load, an answer of the last second is not computed anew, and one of half a minute will do.
 */
const STALE_UNDER_LOAD = { staleMs: 30_000, restMs: 1_000 };

export type Deps = ReturnType<typeof createDeps>;

/**
 * The composition root: the only place that makes long-lived things. `role` names the process in
 * logs, in pg_stat_activity and in CLIENT LIST.
 */
export function createDeps(config: Config, role: string) {
  const { requestTimeoutMs } = config;
  const log = createLog(config.logLevel, { role, pid: process.pid });
  const metrics = createMetrics();
  const db = createDatabase({
    url: config.databaseUrl,
    prepare: config.databasePrepare,
    applicationName: `footfall ${role}`,
  });
  const redisFactory = createRedisFactory(config.redisUrl, log);
  const redis = redisFactory.command(role);
  const announcer = createAnnouncer(redis, metrics);
  const redisGuard = createRedisGuard();
  const countInRedis = createRedisRateCounter(redis);
  const readGuard = createReadGuard({
    maxReads: config.load.reads,
    probe: () => db.lookUps`select 1`,
    onStateChange: (state) => {
      metrics.readBreakerOpen.set(state === "closed" ? 0 : 1);
      log.warn({ state }, "breaker before reads from Postgres");
    },
    onRefused: (priority) => metrics.requestsShed.inc({ priority }),
  });
  const load = createLoadMonitor(config.load, {
    readPressure: readGuard.pressure,
    onChange: (level, step) => {
      metrics.loadLevel.set(step);
      log.info({ loadLevel: level }, "load level");
    },
  });
  const cacheStats = createCacheStats(redis);
  const cache = createCache(redis, redisGuard, metrics, {
    onRead: cacheStats.note,
    bounds: config.cacheBounds,
    tolerance: () => (load.atLeast("stale") ? STALE_UNDER_LOAD : { staleMs: config.cacheStaleMs, restMs: 0 }),
  });
  const invalidator = createInvalidator(redis, metrics);
  const partitions = new EventPartitions(db.write);
  const readTenantSettings = createTenantSettingsReader(db.orm, readGuard);
  const findPrices = createPriceLookUp(db.lookUps, readGuard);
  const timeZones = createTimeZones(db.lookUps, readGuard);
  const tokens = createAccessTokens(config.jwtSecret, config.jwtSecretPrevious);
  const delays = createSignInDelays(db.write);
  const mailer = config.smtp && createMailer({ ...config.smtp, log });
  const invitationTokens = createInvitationTokens(config.jwtSecret, config.jwtSecretPrevious);
  const idempotency = createIdempotency(db.transaction);
  const webhookGuard = createAddressGuard({
    resolve: resolveBySystem,
    allowPrivate: config.webhookAllowPrivate,
  });
  const orderQueue = createOrderQueue({ db, announcer, invalidator, metrics });
  const writer = createEventWriter({
    sql: db.write,
    partitions,
    announcer,
    metrics,
  });

  const rollups = createRollupService({ db, log, metrics });

  return {
    log,
    metrics,
    db,
    idempotency,
    redis,
    redisFactory,
    announcer,
    invalidator,
    partitions,
    writer,
    readTenantSettings,
    timeZones,
    verifyCredential: createCredentialVerifier(db, tokens, readGuard),
    readGuard,
    redisGuard,
    load,
    cache,
    rateCounters: {
      shared: (key: string, policy: RatePolicy) => redisGuard.run(() => countInRedis(key, policy)),
      local: createLocalRateCounter(),
    },
    identity: createIdentityService({
      db,
      tokens,
      invitationTokens,
      delays,
      signups: config.signups,
      customerSignups: config.customerSignups,
      timeZones,
    }),
    passwords: createPasswordsService({ db, delays, mailer, publicUrl: config.publicUrl, log }),
    apiKeys: createApiKeysService({ db }),
    invitations: createInvitationsService({ db, idempotency, invitationTokens }),
    members: createMembersService({ db, invitationTokens }),
    tenant: createTenantService({ db, timeZones, retryRollups: rollups.retryAll }),
    audit: createAuditService({ db, retentionDays: config.auditRetentionDays }),
    products: createProductsService({
      db,
      cache,
      readGuard,
      invalidator,
      idempotency,
      readTenantSettings,
    }),
    catalogueImports: createCatalogueImportService({ db, readGuard, log }),
    runNextImport: createRunNextImport({ db, invalidator, log }),
    events: createEventsService({
      read: db.read,
      readGuard,
      writer,
      readTenantSettings,
      findPrices,
      maxAgeDays: config.eventMaxAgeDays,
    }),
    findPrices,
    notifications: createNotificationsService({
      db,
      redis,
      redisFactory,
      metrics,
      log,
      retentionDays: config.notificationRetentionDays,
    }),
    outbox: createOutboxService({ db, redis, invalidator, metrics, log }),
    rollups,
    rollupRetries: createRollupRetries({ db, rollups, announcer, invalidator, log }),
    returnsFolder: createReturnsFolder(db),
    properties: createPropertiesService({ db, invalidator }),
    propertyFills: createPropertyFills({ db, invalidator }),
    purchases: createPurchasesService({
      db,
      idempotency,
      partitions,
      announcer,
      invalidator,
      requestTimeoutMs,
    }),
    orders: createOrdersService({
      db,
      cache,
      readGuard,
      idempotency,
      announcer,
      invalidator,
      requestTimeoutMs,
      historyRetentionDays: config.orderHistoryRetentionDays,
    }),
    orderHandling: createOrderHandling({ db, partitions, announcer, invalidator, log, metrics }),
    orderQueue,
    queue: createQueueService({ orderQueue, rollups }),
    sessionLinks: createSessionLinks({ db, rollups, invalidator }),
    eventVoids: createEventVoids({ db, invalidator, announcer, whyKept: whySaleIsKept }),
    analytics: createAnalyticsService({
      sql: db.read,
      lookUps: db.lookUps,
      cache,
      readGuard,
      load,
      readTenantSettings,
      timeZones,
    }),
    caching: createCachingService({ db, redis, stats: cacheStats }),
    system: createSystemService({
      sql: db.lookUps,
      redis,
      version: VERSION,
      degradation: { readGuard, redisGuard, load, hitRate: cacheStats.hitRate },
    }),
    webhookGuard,
    webhooks: createWebhooksService({ db, guard: webhookGuard }),
    webhookDeliveries: createWebhookDeliveries({ sql: db.write, guard: webhookGuard, metrics, log }),
  };
}

/** Finishes what waits and closes every connection. */
export async function closeDeps(deps: Deps, graceMs: number): Promise<void> {
  await withDeadline(deps.writer.drain(), graceMs, () => new Error("events still wait for Postgres")).catch(
    (error) => {
      deps.log.error({ error: String(error) }, "stopping all the same");
    },
  );
  deps.notifications.close();
  deps.redis.disconnect();
  await deps.db.close();
}
