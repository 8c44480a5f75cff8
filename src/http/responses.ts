import { z } from "@hono/zod-openapi";

/** A JSON answer for a route definition. */
export function json<S extends z.ZodType>(schema: S, description: string) {
  return { description, content: { "application/json": { schema } } };
}

/** A required JSON body for a route definition. */
export function jsonBody<S extends z.ZodType>(schema: S) {
  return { body: { required: true, content: { "application/json": { schema } } } } as const;
}

/** RFC 3339 UTC with milliseconds. */
export const Instant = z.iso.datetime().openapi({ example: "2026-11-21T09:30:00.000Z" });

/** The query of a keyset list without filters. */
export const PageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  cursor: z.string().max(1000).optional(),
});
