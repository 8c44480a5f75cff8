import type { MiddlewareHandler } from "hono";
import { newId } from "../../core/ids.ts";
import type { HttpEnv } from "../router.ts";

const ACCEPTABLE = /^[A-Za-z0-9_.:-]{1,128}$/;

/**
 * Takes the caller's X-Request-Id when it is plain text of sane length, else makes one; echoes it.
 */
export function requestId(): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const given = c.req.header("x-request-id");
    const id = given !== undefined && ACCEPTABLE.test(given) ? given : newId();
    c.set("requestId", id);
    c.header("x-request-id", id);
    await next();
  };
}
