import type { MiddlewareHandler } from "hono";
import { createAddressReader } from "../client-address.ts";
import type { HttpEnv } from "../router.ts";

/** What Bun.serve passes beside the request; absent when a test calls the app without a server. */
interface ServerEnv {
  requestIP?(request: Request): { address: string } | null;
}

const NO_PEER = "127.0.0.1";

/** Offers the client's address to the routes that ask for it; few do. */
export function clientAddress(trustedProxies: readonly string[]): MiddlewareHandler<HttpEnv> {
  const readAddress = createAddressReader(trustedProxies);
  return (c, next) => {
    c.set("clientAddress", () => {
      const server = c.env as ServerEnv | undefined;
      const peer = server?.requestIP?.(c.req.raw)?.address ?? NO_PEER;
      return readAddress(peer, c.req.header("x-forwarded-for"));
    });
    return next();
  };
}
