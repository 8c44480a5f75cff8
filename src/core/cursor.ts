import { AppError } from "./errors.ts";
import { sha256 } from "./ids.ts";

/**
 * Opaque keyset cursors: base64url of `[fingerprint, ...key]`. The fingerprint binds a cursor to
 * the filters and sort of its list, so it can't be used for another list.
 */
export function encodeCursor(filters: unknown, key: readonly string[]): string {
  return Buffer.from(JSON.stringify([fingerprint(filters), ...key])).toString("base64url");
}

/**
 * The key of a cursor, `keyLength` strings long. Throws `invalid_input` for a foreign, mangled or
 * mismatched one.
 */
export function decodeCursor(filters: unknown, cursor: string, keyLength: number): string[] {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
  } catch {
    parts = null;
  }
  const valid =
    Array.isArray(parts) && parts.length === keyLength + 1 && parts.every((part) => typeof part === "string");
  if (!valid || (parts as string[])[0] !== fingerprint(filters)) {
    throw new AppError(
      "invalid_input",
      "The cursor does not belong to this list, its filters and its sort.",
      {
        errors: [{ path: "cursor", code: "invalid_cursor", message: "start again without a cursor" }],
      },
    );
  }
  return (parts as string[]).slice(1);
}

function fingerprint(filters: unknown): string {
  return sha256(JSON.stringify(filters)).slice(0, 12);
}
