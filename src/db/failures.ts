import { AppError } from "../core/errors.ts";

/**
 * What a database error means for the caller. Decided by SQLSTATE only: constraint names change
 * under sharding.
 */
export type FailureKind = "data" | "conflict" | "retry" | "locked" | "unavailable" | "timeout" | "other";

const UNAVAILABLE_CODES = new Set([
  "53300",
  "57P01",
  "57P02",
  "57P03",
  "57P04",
  "57P05",
  "25P03",
  "25006",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ENOTFOUND",
  "ENOENT",
  "ETIMEDOUT",
  "ERR_SOCKET_CLOSED",
]);

/**
 * The SQLSTATE (or driver code) of an error; drizzle hides it in `cause`. Null when there is none.
 */
export function sqlState(error: unknown): string | null {
  for (
    let current = error, depth = 0;
    current instanceof Error && depth < 5;
    current = current.cause, depth += 1
  ) {
    const code = (current as { code?: unknown }).code;
    if (typeof code === "string" && !(current instanceof AppError)) return code;
  }
  return null;
}

export function classifyFailure(error: unknown): FailureKind {
  const state = sqlState(error);
  if (state === null) return "other";
  if (state === "40001" || state === "40P01") return "retry";
  if (state === "55P03") return "locked";
  if (state === "23505") return "conflict";
  if (state === "57014") return "timeout";
  if (UNAVAILABLE_CODES.has(state) || /^(08|53|58)/.test(state)) return "unavailable";
  if (/^22/.test(state) || state === "23514" || state === "54001") return "data";
  return "other";
}

/**
 * True for an error that says that Postgres (or a proxy before it) is away, and nothing about the
 * statement.
 */
export function isAway(error: unknown): boolean {
  if (error instanceof AppError) return error.code === "unavailable";
  return classifyFailure(error) === "unavailable";
}

/** An AppError for a database failure; null where the failure is our defect (a 500). */
export function appErrorOf(error: unknown): AppError | null {
  switch (classifyFailure(error)) {
    case "data":
      return new AppError("invalid_input", "A value can't be stored: it is out of range or not valid text.", {
        cause: error,
      });
    case "conflict":
      return new AppError("conflict", "A record with this key exists already.", { cause: error });
    case "retry":
    case "unavailable":
      return new AppError("unavailable", "The database can't be reached right now.", {
        retryAfterSeconds: 1,
        cause: error,
      });
    case "locked":
      return new AppError("unavailable", "The same records are being changed by somebody else.", {
        retryAfterSeconds: 5,
        cause: error,
      });
    case "timeout":
      return new AppError("unavailable", "The question takes too long; ask for a shorter range.", {
        retryAfterSeconds: 5,
        cause: error,
      });
    case "other":
      return null;
  }
}

const ATTEMPTS = 5;

/**
 * Runs `work` again when Postgres rolled it back, so that nothing of it happened. By default after
 * a deadlock or a serialization failure, but not after a lock timeout: the caller has waited
 * enough.
 */
export async function retryRolledBack<T>(
  work: () => Promise<T>,
  kinds: readonly FailureKind[] = ["retry"],
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt === ATTEMPTS || !kinds.includes(classifyFailure(error))) throw error;
      await Bun.sleep(Math.random() * 20 * attempt);
    }
  }
}
