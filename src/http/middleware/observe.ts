import type { MiddlewareHandler } from "hono";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { HttpEnv } from "../router.ts";

/** Counts and times every request; logs it at debug, since a line an event would cost more than the event. */
export function observe(metrics: Metrics, log: Log): MiddlewareHandler<HttpEnv> {
  const debug = log.isLevelEnabled("debug");
  return async (c, next) => {
    const startedAt = performance.now();
    await next();
    const ms = performance.now() - startedAt;
    metrics.httpDuration.observe(ms / 1000);
    metrics.httpRequests.inc({ method: c.req.method, status: `${Math.floor(c.res.status / 100)}xx` });
    if (debug)
      log.debug(
        { requestId: c.get("requestId"), method: c.req.method, path: c.req.path, status: c.res.status, ms },
        "request",
      );
  };
}
