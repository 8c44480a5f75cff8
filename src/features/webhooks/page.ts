import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";

/** Keyset pages by id, newest first. `filters` bind a cursor to its list. */
export function readCursor(filters: unknown, cursor: string | undefined): string | null {
  const [before = null] = cursor ? decodeCursor(filters, cursor, 1) : [];
  if (before !== null && !isUuid(before)) throw new AppError("invalid_input", "The cursor is not valid.");
  return before;
}

/** `rows` are one more than `limit` when there is a page after this one. */
export function pageOf<R extends { id: string }, T>(
  filters: unknown,
  rows: readonly R[],
  limit: number,
  show: (row: R) => T,
) {
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return {
    items: rows.slice(0, limit).map(show),
    nextCursor: last ? encodeCursor(filters, [last.id]) : null,
  };
}
