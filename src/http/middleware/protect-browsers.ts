import type { MiddlewareHandler } from "hono";
import { DOCS_PATH } from "../docs.ts";
import type { HttpEnv } from "../router.ts";

/** Answers are data: a browser that shows one must load and run nothing, and embed it nowhere. */
const HEADERS: readonly (readonly [string, string])[] = [
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["cross-origin-resource-policy", "same-origin"],
  ["referrer-policy", "no-referrer"],
  ["strict-transport-security", "max-age=15552000; includeSubDomains"],
  ["x-content-type-options", "nosniff"],
  ["x-frame-options", "DENY"],
];

/** Swagger UI needs inline style and data: images; nothing is loaded from elsewhere. */
const DOCS_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/**
 * The fixed headers of the OWASP secure headers project. hono/secure-headers would build a policy
 * for each answer.
 */
export function protectBrowsers(): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    await next();
    const { headers } = c.res;
    // A page that may do more brings its own policy.
    for (const [name, value] of HEADERS) if (!headers.has(name)) headers.set(name, value);
    if (c.req.path === DOCS_PATH) headers.set("content-security-policy", DOCS_POLICY);
  };
}
