import type { z } from "zod";
import type { FieldError } from "./errors.ts";

const MAX_REPORTED = 20;

/** The first issues of a failed zod check, as field errors; unknown keys are named one by one. */
export function fieldErrorsOf(error: z.ZodError): FieldError[] {
  return error.issues.slice(0, MAX_REPORTED).flatMap((issue): FieldError[] => {
    const path = issue.path.map(String).join(".");
    if (issue.code !== "unrecognized_keys") return [{ path, code: issue.code, message: issue.message }];
    return issue.keys.slice(0, MAX_REPORTED).map((key) => ({
      path: path ? `${path}.${key}` : key,
      code: issue.code,
      message: "unknown key",
    }));
  });
}

/** Postgres text and jsonb hold neither NUL nor lone surrogates. */
export function isStorable(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}
