import type { HttpContext } from "./router.ts";

/** What Bun.serve passes beside the request; absent when a test calls the app without a server. */
interface ServerEnv {
  timeout?(request: Request, seconds: number): void;
}

/** How long the request's socket may be silent before Bun closes it; 0: for ever. */
export function setIdleTimeout(c: HttpContext, seconds: number): void {
  (c.env as ServerEnv | undefined)?.timeout?.(c.req.raw, seconds);
}
