import type { MiddlewareHandler } from "hono";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { HttpEnv } from "../router.ts";

/**
 * Counts and times every request. Logs it at debug only: a line an event would cost more than the
 * event.
 */
export function observe(metrics: Metrics, log: Log): MiddlewareHandler<HttpEnv> {
  const debug = log.isLevelEnabled("debug");
  // A series looked up by its labels costs more than the increment.
  const series = new Map<string, { inc(): void }>();
  const count = (method: string, status: number) => {
    const name = `${method} ${Math.floor(status / 100)}xx`;
    const known = series.get(name) ?? metrics.httpRequests.labels(method, `${Math.floor(status / 100)}xx`);
    series.set(name, known);
    known.inc();
  };
  return async (c, next) => {
    const startedAt = performance.now();
    await next();
    const ms = performance.now() - startedAt;
    metrics.httpDuration.observe(ms / 1000);
    count(c.req.method, c.res.status);
    if (debug)
      log.debug(
        { requestId: c.get("requestId"), method: c.req.method, path: c.req.path, status: c.res.status, ms },
        "request",
      );
  };
}
