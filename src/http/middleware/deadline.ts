import type { MiddlewareHandler } from "hono";
import { createDeadline, type InTime } from "../../core/deadline.ts";
import { AppError } from "../../core/errors.ts";
import type { HttpEnv } from "../router.ts";

/**
 * Ends the connection, too: a client that trickles its body in could go on with it after the
 * answer.
 */
export function createRequestDeadline(timeoutMs: number): InTime {
  const headers = { connection: "close" };
  return createDeadline(
    timeoutMs,
    () => new AppError("unavailable", "The request took too long.", { headers }),
  );
}

/**
 * Refuses a request that takes too long, slow bodies included. A POST to the `exempt` path is a
 * single event: there only the read of the body has this deadline, and the commit has its own. One
 * around the whole cost a twentieth of the rate.
 */
export function deadline(inTime: InTime, exempt: string): MiddlewareHandler<HttpEnv> {
  return (c, next) => (c.req.path === exempt && c.req.method === "POST" ? next() : inTime(next()));
}
