import { z } from "@hono/zod-openapi";
import { TOPICS } from "../core/domain-events.ts";
import type { PreparedJson } from "../core/json-text.ts";
import { PRODUCT_STATUSES } from "../core/product-fields.ts";
import type { HttpContext } from "./router.ts";

/** A JSON answer for a route definition. */
export function json<S extends z.ZodType>(schema: S, description: string) {
  return { description, content: { "application/json": { schema } } };
}

/** A required JSON body for a route definition. */
export function jsonBody<S extends z.ZodType>(schema: S) {
  return { body: { required: true, content: { "application/json": { schema } } } } as const;
}

/**
 * Up to this size Bun collects an answer that was waited for before it writes. Above, it writes
 * each part of each header by a system call of its own (oven-sh/bun#41341): 300 µs an answer
 * instead of 30. The head of a stream is always collected.
 */
const GATHERED_BYTES = 15 * 1024;

/**
 * Answers as `c.json` would, with bytes that are ready. The tag that comes with them saves hashing
 * the answer for its ETag; a POST has none.
 */
export function sendJson<T extends object>(c: HttpContext, { bytes, tag }: PreparedJson<T>) {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (c.req.method !== "POST") headers.etag = `"${tag}"`;
  const body = bytes.byteLength < GATHERED_BYTES ? bytes : streamOf(bytes);
  return c.body(body, 200, headers) as unknown as ReturnType<typeof c.json<T, 200>>;
}

/**
 * A stream that holds all of its bytes until its end, so that they leave in one write with their
 * Content-Length.
 */
function streamOf(bytes: Uint8Array): ReadableStream {
  const source: Bun.DirectUnderlyingSource = {
    type: "direct",
    pull(controller) {
      controller.write(bytes);
      controller.end();
    },
  };
  return new ReadableStream(source, { highWaterMark: bytes.byteLength + 1 });
}

/** RFC 3339 UTC with milliseconds. */
export const Instant = z.iso.datetime().openapi({ example: "2026-11-21T09:30:00.000Z" });

/** A flag of a query: `true` or `false`. */
export const Flag = z
  .enum(["true", "false"])
  .transform((text) => text === "true")
  .openapi({ type: "boolean" });

/** Sent by domain events to notifications, webhooks and streams. */
export const Topic = z.enum(TOPICS).openapi("Topic");

export const ProductStatus = z.enum(PRODUCT_STATUSES).openapi("ProductStatus");

export const SortDirection = z.enum(["asc", "desc"]).openapi("SortDirection");

/**
 * A name of a list, with its default told in words: a reference to the list can't hold a default.
 */
export function withDefault<S extends z.ZodEnum>(names: S, fallback: z.output<S>) {
  return names.default(fallback as never).openapi({ description: `Default: ${fallback}` });
}

const limit = z.coerce.number().int().min(1).max(100).default(20);
const cursor = z
  .string()
  .max(1000)
  .optional()
  .openapi({ description: "The `nextCursor` of the page before" });

/** The query of a keyset list without filters. */
export const PageQuery = z.strictObject({ limit, cursor });

const NextCursor = z
  .string()
  .nullable()
  .openapi({ description: "Sent as `cursor`, it brings the next page; null on the last one" });

/** A page of a keyset list. */
export function pageOf<S extends z.ZodType>(item: S, name: string) {
  return z.object({ items: z.array(item), nextCursor: NextCursor }).openapi(name);
}

/** A page of a list that goes by cursor or by number: one shape, whichever was asked for. */
export function numberedPageOf<S extends z.ZodType>(item: S, name: string) {
  return z
    .object({
      items: z.array(item),
      nextCursor: NextCursor.openapi({
        description:
          "Sent as `cursor`, it brings the next page; null on the last one, and where `page` was asked for",
      }),
      page: z.number().int().nullable().openapi({ description: "null unless it was asked for" }),
      limit: z.number().int(),
      total: z
        .number()
        .int()
        .nullable()
        .openapi({ description: "Of all pages; null for a page by cursor, which counts nothing" }),
    })
    .openapi(name);
}
