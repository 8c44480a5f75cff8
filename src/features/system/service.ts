import type { Redis } from "ioredis";
import { withDeadline } from "../../core/deadline.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { isMigrated } from "../../db/migrate.ts";
import type { LoadMonitor } from "../../resilience/load-level.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { RedisGuard } from "../../resilience/redis-guard.ts";
import { countDeadLetters } from "../rollups/index.ts";

export interface SystemDeps {
  sql: Sql;
  redis: Redis;
  version: string;
  degradation: {
    readGuard: Pick<ReadGuard, "state" | "lookUp">;
    redisGuard: Pick<RedisGuard, "state">;
    load: Pick<LoadMonitor, "level" | "signals">;
    hitRate: () => number | null;
  };
}

export interface ServiceHealth {
  status: "up" | "down";
  responseTimeMs: number;
}

export type SystemService = ReturnType<typeof createSystemService>;

const PROBE_TIMEOUT_MS = 2_000;
const PROBE_KEPT_MS = 1_000;
/**
 * What takes longer is left out: who asks about a process in trouble must not wait for the trouble
 * to end.
 */
const QUICK_MS = 250;
/** Batches older than this say that no worker keeps up. */
const MAX_LAG_MS = 60_000;

export function createSystemService({ sql, redis, version, degradation }: SystemDeps) {
  const startedAt = Date.now();

  const probeServices = shared(() => Promise.all([probe(() => sql`select 1`), probe(() => redis.ping())]));
  const findReasons = shared(async () => {
    try {
      if (!(await withTimeout(isMigrated(sql))))
        return ["the database is not migrated: run `footfall migrate`"];
      const lagMs = await withTimeout(readLagMs(sql));
      return lagMs > MAX_LAG_MS ? [`the worker is ${Math.round(lagMs / 1000)} s behind`] : [];
    } catch {
      return ["Postgres does not answer"];
    }
  });

  const findLag = shared(() => degradation.readGuard.lookUp(() => readLagMs(sql)));

  let stopping = false;

  return {
    /** From now on this process is not ready: no new traffic should come. */
    announceStop(): void {
      stopping = true;
    },

    /** `degraded` without Redis (everything works, slower), `down` without Postgres. */
    async getHealth() {
      const [postgres, redisHealth] = await probeServices();
      const status = postgres.status === "down" ? "down" : redisHealth.status === "down" ? "degraded" : "ok";
      const { rss, heapUsed } = process.memoryUsage();
      return {
        status: status as "ok" | "degraded" | "down",
        version,
        uptimeSeconds: Math.round((Date.now() - startedAt) / 1000),
        memory: { rssBytes: rss, heapUsedBytes: heapUsed },
        services: { postgres, redis: redisHealth },
      };
    },

    /**
     * What analytics answers are worth in this process right now, at once: what Postgres does not
     * tell soon is null.
     */
    async getAnalyticsHealth({ tenantId }: RequestContext) {
      const { readGuard, redisGuard, load, hitRate } = degradation;
      const dead = readGuard.lookUp(() => countDeadLetters(sql, tenantId));
      const [lagMs, deadLetters] = await Promise.all([ifQuick(findLag()), ifQuick(dead)]);
      const { loopDelayMs, inFlight, readPressure } = load.signals();
      const breakers = { postgresReads: readGuard.state(), redis: redisGuard.state() };
      const level = load.level();
      const well = level === "normal" && breakers.postgresReads === "closed" && breakers.redis === "closed";
      return {
        status: well ? ("ok" as const) : ("degraded" as const),
        breakers,
        load: { level, loopDelayMs: Math.round(loopDelayMs * 10) / 10, inFlight, readPressure },
        lagMs,
        deadLetters,
        cacheHitRate: hitRate(),
      };
    },

    /**
     * What keeps this process from serving well; empty when it is ready. Redis does not count:
     * ingest and reads go on.
     */
    async findReasonsNotReady(): Promise<string[]> {
      return stopping ? ["this process is stopping"] : findReasons();
    },
  };
}

/**
 * Probes are public and not limited. However many come, the services are asked one at a time and
 * once a second.
 */
function shared<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let untilMs = Number.POSITIVE_INFINITY;
  return () => {
    if (answer !== undefined && Date.now() < untilMs) return answer;
    untilMs = Number.POSITIVE_INFINITY;
    answer = ask().finally(() => {
      untilMs = Date.now() + PROBE_KEPT_MS;
    });
    return answer;
  };
}

/**
 * Age of the oldest batch of any tenant that waits for the workers. Batches of failing tenants
 * don't count.
 */
async function readLagMs(sql: Sql): Promise<number> {
  const [row] = await sql<{ lag_ms: number }[]>`
    select extract(epoch from now() - received_at)::float8 * 1000 as lag_ms from event_batches b
    where rolled_up_at is null and dead_lettered_at is null and not held
      and not exists (select from rollup_failures f where f.tenant_id = b.tenant_id and f.paused)
    order by received_at limit 1`;
  return row?.lag_ms ?? 0;
}

async function probe(ask: () => PromiseLike<unknown>): Promise<ServiceHealth> {
  const startedAt = performance.now();
  const status = await withTimeout(ask()).then(
    () => "up" as const,
    () => "down" as const,
  );
  return { status, responseTimeMs: Math.round((performance.now() - startedAt) * 10) / 10 };
}

/** Null for what fails, too. */
function ifQuick<T>(work: Promise<T>): Promise<T | null> {
  return withDeadline(work, QUICK_MS, () => new Error("timed out")).catch(() => null);
}

function withTimeout<T>(work: PromiseLike<T>): Promise<T> {
  return withDeadline(work, PROBE_TIMEOUT_MS, () => new Error("timed out"));
}
