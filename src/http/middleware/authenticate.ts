import type { MiddlewareHandler } from "hono";
import { AppError } from "../../core/errors.ts";
import type { Principal } from "../../core/principal.ts";
import { addressBlock } from "../client-address.ts";
import type { HttpContext, HttpEnv } from "../router.ts";
import type { BadCredentials } from "./bad-credentials.ts";
import { isEventWrite } from "./origins.ts";

/**
 * Checks one credential. `tenantId` is the caller's X-Tenant-Id, when sent; `keyOnly`: only an API
 * key will do; `admitUnknown` throws when a credential must not even be checked. Rejects with an
 * AppError for a bad one.
 */
export type VerifyCredential = (
  credential: string,
  tenantId: string | undefined,
  keyOnly: boolean,
  admitUnknown: () => void,
) => Promise<Principal> | Principal;

/**
 * Offers the request's credential to the routes that need it; nothing is verified until a route
 * asks. A token or key comes as `Authorization: Bearer`, a key also as `X-Api-Key`, and a
 * publishable one with events as `?key=`.
 */
export function authenticate(
  verify: VerifyCredential,
  badCredentials: BadCredentials | null,
): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    c.set("authenticate", () => {
      const bearer = c.req.header("authorization")?.match(/^Bearer\s+(\S+)$/i)?.[1];
      const credential = bearer ?? c.req.header("x-api-key") ?? publishableKeyInUrl(c);
      if (credential === undefined) return null;
      const address = () => addressBlock(c.get("clientAddress")());
      const admitUnknown = () => badCredentials?.refuse(address());
      const principal = verify(credential, c.req.header("x-tenant-id"), bearer === undefined, admitUnknown);
      if (badCredentials === null || !(principal instanceof Promise)) return principal;
      return principal.catch(async (error) => {
        if (error instanceof AppError && error.code === "unauthenticated")
          await badCredentials.count(address());
        throw error;
      });
    });
    await next();
  };
}

const PUBLISHABLE = "ffp_";

/**
 * A browser's beacon can send no header, and a header of ours costs a preflight. Only publishable
 * keys may come by the URL, which ends up in logs and histories: every page of a shop shows them
 * anyway. A secret key there is refused.
 */
function publishableKeyInUrl(c: HttpContext): string | undefined {
  if (!isEventWrite(c.req.method, c.req.path)) return undefined;
  const key = c.req.query("key");
  if (key === undefined || key.startsWith(PUBLISHABLE)) return key;
  throw new AppError(
    "unauthenticated",
    `?key= takes a publishable key (${PUBLISHABLE}…) only; send another one as X-Api-Key.`,
  );
}
