import { z } from "zod";
import { AppError, type FieldError } from "./errors.ts";
import { explainIssue, explainKey, knownKeys, nearBranches } from "./explain-issue.ts";

const MAX_REPORTED = 20;
const MAX_PATH_SHOWN = 100;

/** Filled while an issue is worded: a finished issue no longer knows the schema that raised it. */
const KNOWN_KEYS = new WeakMap<readonly string[], string[]>();

/** The one place where zod's own messages are replaced, for requests, settings and files alike. */
z.config({
  customError: (issue) => {
    if (issue.code === "unrecognized_keys") KNOWN_KEYS.set(issue.keys as string[], knownKeys(issue));
    return explainIssue(issue);
  },
});

/** The first issues of a failed zod check, as field errors; unknown keys are named one by one. */
export function fieldErrorsOf(error: z.ZodError): FieldError[] {
  return error.issues.slice(0, MAX_REPORTED).flatMap((issue) => errorsOfIssue(issue, []));
}

function errorsOfIssue(issue: z.core.$ZodIssue, parents: readonly PropertyKey[]): FieldError[] {
  const segments = [...parents, ...issue.path];
  const path = segments.map(String).join(".");
  const { code, message } = issue;
  if (code === "unrecognized_keys") {
    const known = KNOWN_KEYS.get(issue.keys) ?? [];
    return issue.keys
      .slice(0, MAX_REPORTED)
      .map((key) => ({ path: path ? `${path}.${key}` : key, code, message: explainKey(key, known) }));
  }
  // Of a union, the one branch that takes values of this type is what was meant.
  const [branch, ...others] = code === "invalid_union" ? nearBranches(issue.errors) : [];
  if (branch && others.length === 0) return branch.flatMap((one) => errorsOfIssue(one, segments));
  return [{ path, code: stableCode(issue), message }];
}

/** A refinement names its code as `params.code`, where clients may branch on it. */
function stableCode(issue: z.core.$ZodIssue): string {
  return issue.code === "custom" && typeof issue.params?.code === "string" ? issue.params.code : issue.code;
}

/**
 * The answer to an input that is refused. Its detail tells the first finding, for people who read
 * no further.
 */
export function invalidInput(what: string, errors: FieldError[]): AppError {
  return new AppError("invalid_input", `The ${what} is not valid: ${firstFinding(errors)}.`, { errors });
}

/** What the detail of a problem tells of its errors. */
export function firstFinding(errors: readonly Pick<FieldError, "path" | "message">[]): string {
  const [{ path, message } = { path: "", message: "is not accepted" }] = errors;
  return `${path.slice(0, MAX_PATH_SHOWN)} ${message}`.trim();
}

/** Postgres text and jsonb hold neither NUL nor lone surrogates. */
export function isStorable(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}
