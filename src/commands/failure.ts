import { ConfigError } from "../config.ts";
import { AppError } from "../core/errors.ts";
import { classifyFailure, sqlState } from "../db/failures.ts";

/** One sentence that says what to do, for whatever a command threw. */
export function explainFailure(error: unknown): string {
  if (error instanceof ConfigError || error instanceof AppError) return error.message;
  const state = sqlState(error);
  if (state === "3D000")
    return "The database that DATABASE_URL names does not exist; create it with createdb.";
  if (state === "28P01" || state === "28000") return "Postgres refuses the user or password in DATABASE_URL.";
  if (state === "42P01" || state === "42703")
    return "The database is not migrated; run `footfall migrate` first.";
  if (classifyFailure(error) === "unavailable")
    return "Postgres does not answer at DATABASE_URL; is it running?";
  const message = error instanceof Error ? error.message : String(error);
  if (state === "EADDRINUSE") return `${message} Set PORT to a free one.`;
  return message;
}
