import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import type { HttpEnv } from "../router.ts";

const EVENT_WRITES = new Set(["/events", "/events/bulk"]);
const EXPOSED = [
  "x-request-id",
  "ratelimit",
  "ratelimit-policy",
  "retry-after",
  "etag",
  "idempotent-replayed",
];
const PREFLIGHT_SECONDS = 600;

/** What a shop's pages may call from anywhere. */
export function isEventWrite(method: string | undefined, path: string): boolean {
  return method === "POST" && EVENT_WRITES.has(path);
}

/**
 * CORS: any shop's pages may write events (publishable keys are made for that, and no cookie is
 * ever used). All else is for the configured origins only.
 */
export function allowOrigins(origins: readonly string[]): MiddlewareHandler<HttpEnv> {
  const options = { exposeHeaders: EXPOSED, maxAge: PREFLIGHT_SECONDS };
  const anyOrigin = cors({ ...options, origin: "*", allowMethods: ["POST"] });
  const configured = cors({
    ...options,
    origin: [...origins],
    allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
  });
  return (c, next) => {
    // Not a browser on another site's page.
    if (c.req.header("origin") === undefined) return next();
    const method = c.req.method === "OPTIONS" ? c.req.header("access-control-request-method") : c.req.method;
    if (isEventWrite(method, c.req.path)) return anyOrigin(c, next);
    return origins.length > 0 ? configured(c, next) : next();
  };
}
