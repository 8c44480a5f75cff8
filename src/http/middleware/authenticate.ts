import type { MiddlewareHandler } from "hono";
import type { Principal } from "../../core/principal.ts";
import type { HttpEnv } from "../router.ts";

/**
 * Checks one credential. `tenantId` is the caller's X-Tenant-Id, when sent; `keyOnly` when only an API key will do.
 * Throws AppError for a bad one.
 */
export type VerifyCredential = (
  credential: string,
  tenantId: string | undefined,
  keyOnly: boolean,
) => Promise<Principal> | Principal;

/**
 * Offers the request's credential to the routes that need it; nothing is verified until a route asks. A token or key
 * comes as `Authorization: Bearer`, a key also as `X-Api-Key`.
 */
export function authenticate(verify: VerifyCredential): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    c.set("authenticate", () => {
      const bearer = c.req.header("authorization")?.match(/^Bearer\s+(\S+)$/i)?.[1];
      const credential = bearer ?? c.req.header("x-api-key");
      if (credential === undefined) return null;
      return verify(credential, c.req.header("x-tenant-id"), bearer === undefined);
    });
    await next();
  };
}
