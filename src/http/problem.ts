import { z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { AppError, ERRORS, type ErrorCode } from "../core/errors.ts";
import { appErrorOf } from "../db/failures.ts";
import { type Log, withoutValues } from "../telemetry/log.ts";

/** RFC 9457 problem details: the one shape of every error answer. */
export const ProblemSchema = z
  .object({
    type: z.string().openapi({ example: "about:blank" }),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]).openapi("ErrorCode"),
    requestId: z.string(),
    errors: z.array(z.object({ path: z.string(), code: z.string(), message: z.string() })).optional(),
  })
  .openapi("Problem");

const RETRY_AFTER_SECONDS = 1;

/**
 * Turns anything thrown into a problem: the only place where an error becomes a status. Logs our
 * own faults.
 */
export function problemOf(error: unknown, c: Context, log: Log): Response {
  const known = error instanceof AppError ? error : (appErrorOfHttp(error, c) ?? appErrorOf(error));
  if (known === null || known.code === "internal") {
    log.error({ requestId: c.get("requestId"), path: c.req.path, err: error }, "request failed");
    return problem(c, new AppError("internal", "The failure was logged under this request id."));
  }
  if (known.code === "unavailable") {
    log.warn(
      {
        requestId: c.get("requestId"),
        path: c.req.path,
        cause: String(withoutValues(known.cause ?? known.message)),
      },
      "request refused",
    );
  }
  return problem(c, known);
}

/** The problem+json answer for an AppError. */
export function problem(c: Context, error: AppError): Response {
  const { status, title, retryable } = ERRORS[error.code];
  const body = {
    type: "about:blank",
    title,
    status,
    detail: error.message,
    code: error.code,
    requestId: c.get("requestId") ?? "",
    ...(error.errors ? { errors: error.errors } : {}),
  };
  const headers: Record<string, string> = {
    ...error.headers,
    "content-type": "application/problem+json",
    // A 404 may be cached unless told otherwise, and this one may be somebody's own.
    "cache-control": "no-store",
  };
  if (retryable) headers["retry-after"] = String(error.retryAfterSeconds ?? RETRY_AFTER_SECONDS);
  if (status === 401) headers["www-authenticate"] = "Bearer";
  return c.body(JSON.stringify(body), status, headers);
}

/** What Bun, Hono and its validators throw on their own. */
function appErrorOfHttp(error: unknown, c: Context): AppError | null {
  // Bun rejects the read of a body with this when the client has left. Nobody reads the answer.
  if (error instanceof DOMException && error.name === "AbortError" && c.req.raw.signal.aborted)
    return new AppError("malformed_body", "The client closed the connection before its body ended.");
  if (!(error instanceof HTTPException)) return null;
  if (error.status === 413) return new AppError("too_large", "The body is larger than this route takes.");
  if (error.status === 415) {
    return new AppError(
      "unsupported_media_type",
      "This route does not take this Content-Type or Content-Encoding.",
    );
  }
  if (error.status === 400) return new AppError("malformed_body", "The body is not valid JSON.");
  return null;
}
