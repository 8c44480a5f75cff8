import type { MiddlewareHandler } from "hono";
import { AppError } from "../../core/errors.ts";
import type { HttpEnv } from "../router.ts";

const LOOK_EVERY_MS = 1_000;

/**
 * Refuses a request that takes longer than `timeoutMs` (slow bodies included). One timer looks after all requests. The
 * `exempt` path is that of single events, whose commit has a deadline of its own: racing each of them against a promise
 * took a tenth of their rate.
 */
export function deadline(timeoutMs: number, exempt: string): MiddlewareHandler<HttpEnv> {
  // In order of arrival, and so of deadlines.
  const running = new Set<{ untilMs: number; expire(error: AppError): void }>();
  setInterval(() => {
    for (const request of running) {
      if (request.untilMs > performance.now()) return;
      request.expire(new AppError("unavailable", "The request took too long."));
    }
  }, LOOK_EVERY_MS).unref();

  return async (c, next) => {
    if (c.req.path === exempt) return next();
    const { promise, reject } = Promise.withResolvers<never>();
    const request = { untilMs: performance.now() + timeoutMs, expire: reject };
    running.add(request);
    try {
      await Promise.race([next(), promise]);
    } finally {
      running.delete(request);
    }
  };
}
