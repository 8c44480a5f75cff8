import { createCache } from "./cache/cache.ts";
import { createInvalidator } from "./cache/invalidator.ts";
import type { Config } from "./config.ts";
import { withDeadline } from "./core/deadline.ts";
import type { RatePolicy } from "./core/rate-limits.ts";
import { createDatabase } from "./db/client.ts";
import { EventPartitions } from "./db/partitions.ts";
import { createAnalyticsService } from "./features/analytics/index.ts";
import { createAuditService } from "./features/audit/index.ts";
import { createEventsService, createEventWriter } from "./features/events/index.ts";
import { createIdempotency } from "./features/idempotency/index.ts";
import {
  createAccessTokens,
  createApiKeysService,
  createCredentialVerifier,
  createIdentityService,
  createInvitationTokens,
  createMembersService,
  createTenantService,
  createTenantSettingsReader,
} from "./features/identity/index.ts";
import {
  createOrderHandling,
  createOrderQueue,
  createOrdersService,
  createPurchasesService,
} from "./features/orders/index.ts";
import { createQueueService } from "./features/queue/index.ts";
import { createRollupService } from "./features/rollups/index.ts";
import { createSystemService } from "./features/system/index.ts";
import { createRedisFactory } from "./redis/client.ts";
import { createLocalRateCounter, createRedisRateCounter } from "./redis/rate-limit.ts";
import { createRedisGuard } from "./resilience/redis-guard.ts";
import { createAnnouncer } from "./streams/producer.ts";
import { createLog } from "./telemetry/log.ts";
import { createMetrics } from "./telemetry/metrics.ts";
import { VERSION } from "./version.ts";

export type Deps = ReturnType<typeof createDeps>;

/**
 * The composition root: the only place that makes long-lived things. `role` names the process in logs, in
 * pg_stat_activity and in CLIENT LIST.
 */
export function createDeps(config: Config, role: string) {
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
  const cache = createCache(redis, redisGuard, metrics);
  const invalidator = createInvalidator(redis, metrics);
  const partitions = new EventPartitions(db.write);
  const readTenantSettings = createTenantSettingsReader(db.orm);
  const tokens = createAccessTokens(config.jwtSecret, config.jwtSecretPrevious);
  const invitationTokens = createInvitationTokens(config.jwtSecret);
  const idempotency = createIdempotency(db.transaction);
  const rollups = createRollupService({ db, log, metrics });
  const orderQueue = createOrderQueue({ db, announcer, invalidator, metrics });
  const writer = createEventWriter({
    sql: db.write,
    partitions,
    announcer,
    metrics,
  });

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
    verifyCredential: createCredentialVerifier(db, tokens),
    rateCounters: {
      shared: (key: string, policy: RatePolicy) => redisGuard.run(() => countInRedis(key, policy)),
      local: createLocalRateCounter(),
    },
    identity: createIdentityService({ db, tokens, invitationTokens, signups: config.signups }),
    apiKeys: createApiKeysService({ db }),
    members: createMembersService({ db, idempotency, invitationTokens }),
    tenant: createTenantService({ db }),
    audit: createAuditService({ sql: db.read }),
    events: createEventsService({ read: db.read, writer, readTenantSettings }),
    rollups,
    purchases: createPurchasesService({ db, idempotency, partitions, announcer, invalidator }),
    orders: createOrdersService({ db, cache, idempotency, announcer, invalidator }),
    orderHandling: createOrderHandling({ db, partitions, announcer, invalidator, log, metrics }),
    orderQueue,
    queue: createQueueService({ orderQueue, rollups }),
    analytics: createAnalyticsService({ sql: db.read, cache, readTenantSettings }),
    system: createSystemService({ sql: db.read, redis, version: VERSION }),
  };
}

/** Finishes what waits and closes every connection. */
export async function closeDeps(deps: Deps, graceMs: number): Promise<void> {
  await withDeadline(deps.writer.drain(), graceMs, () => new Error("events still wait for Postgres")).catch(
    (error) => {
      deps.log.error({ error: String(error) }, "stopping all the same");
    },
  );
  deps.redis.disconnect();
  await deps.db.close();
}
