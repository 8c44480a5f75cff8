import { z } from "@hono/zod-openapi";
import { json } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import { LOAD_LEVELS } from "../../resilience/load-level.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { SystemService } from "./index.ts";

const ServiceHealth = z
  .object({ status: z.enum(["up", "down"]), responseTimeMs: z.number() })
  .openapi("ServiceHealth");

const Health = z
  .object({
    status: z.enum(["ok", "degraded", "down"]),
    version: z.string(),
    uptimeSeconds: z.number().int(),
    memory: z.object({ rssBytes: z.number().int(), heapUsedBytes: z.number().int() }),
    services: z.object({ postgres: ServiceHealth, redis: ServiceHealth }),
  })
  .openapi("Health");

const Readiness = z.object({ ready: z.boolean(), reasons: z.array(z.string()) }).openapi("Readiness");

const BreakerState = z.enum(["closed", "half-open", "open"]).openapi("BreakerState");

const AnalyticsHealth = z
  .object({
    status: z.enum(["ok", "degraded"]),
    breakers: z.object({ postgresReads: BreakerState, redis: BreakerState }),
    load: z.object({
      level: z.enum(LOAD_LEVELS),
      loopDelayMs: z.number().openapi({ description: "Mean delay of the event loop" }),
      inFlight: z.number().int().openapi({ description: "Requests, event ingestion not counted" }),
      readPressure: z.number().openapi({ description: "Reads that run or wait, by LOAD_READS" }),
    }),
    lagMs: z.number().nullable().openapi({
      description:
        "Age of the oldest batch not counted yet, dead letters left out; null when Postgres does not tell at once",
    }),
    deadLetters: z.number().int().nullable().openapi({
      description:
        "Batches of this tenant that could not be counted: missing in every answer until retried, and no part of any `lagMs`; null when Postgres does not tell at once",
    }),
    cacheHitRate: z.number().nullable().openapi({ description: "Of this process since its start" }),
  })
  .openapi("AnalyticsHealth");

const tags = ["System"];

export function createSystemRoutes(system: SystemService, metrics: Metrics) {
  const router = createRouter();

  const getHealth = defineRoute({
    operationId: "getHealth",
    method: "get",
    path: "/health",
    tags,
    summary: "How the process and its two services are",
    responses: { 200: json(Health, "Up, perhaps without Redis"), 503: json(Health, "Postgres is down") },
  });
  router.openapi(getHealth, async (c) => {
    const health = await system.getHealth();
    return c.json(health, health.status === "down" ? 503 : 200);
  });

  const getAnalyticsHealth = defineRoute({
    operationId: "getAnalyticsHealth",
    method: "get",
    path: "/analytics/health",
    tags: ["Analytics"],
    summary: "What analytics answers are worth right now: breakers, load, lag, hit rate of this process",
    etag: true,
    description:
      "Answered under every load, whatever the priority, and at once also while Postgres is silent: what it does not tell within a quarter of a second is null.",
    responses: { 200: json(AnalyticsHealth, "Also when degraded") },
  });
  router.openapi(getAnalyticsHealth, async (c) =>
    c.json(await system.getAnalyticsHealth(requestContext(c)), 200),
  );

  const getLiveness = defineRoute({
    operationId: "getLiveness",
    method: "get",
    path: "/health/live",
    tags,
    summary: "Is the process alive",
    responses: { 200: json(z.object({ status: z.literal("ok") }), "Alive") },
  });
  router.openapi(getLiveness, (c) => c.json({ status: "ok" as const }, 200));

  for (const [operationId, path] of [
    ["getReadiness", "/health/ready"],
    ["getReadinessAlias", "/ready"],
  ] as const) {
    const getReadiness = defineRoute({
      operationId,
      method: "get",
      path,
      tags,
      summary: "May traffic be sent here",
      responses: { 200: json(Readiness, "Ready"), 503: json(Readiness, "Not ready, with the reasons") },
    });
    router.openapi(getReadiness, async (c) => {
      const reasons = await system.findReasonsNotReady();
      const ready = reasons.length === 0;
      return c.json({ ready, reasons }, ready ? 200 : 503);
    });
  }

  const getMetrics = defineRoute({
    operationId: "getMetrics",
    method: "get",
    path: "/metrics",
    tags,
    summary: "Prometheus metrics of this process",
    responses: { 200: { description: "Text format", content: { "text/plain": { schema: z.string() } } } },
  });
  router.openapi(getMetrics, async (c) =>
    c.text(await metrics.registry.metrics(), 200, { "content-type": metrics.registry.contentType }),
  );

  return router;
}
