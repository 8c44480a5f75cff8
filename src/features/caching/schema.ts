import { z } from "@hono/zod-openapi";

const count = z.number().int();

export const CacheStats = z
  .object({
    hits: count,
    misses: count,
    stale: count.openapi({ description: "Outdated answers that were served and said to be" }),
    hitRate: z
      .number()
      .nullable()
      .openapi({ description: "Reads answered from the cache, stale ones included; null before the first" }),
  })
  .openapi("CacheStats");

export const CacheKeysQuery = z.strictObject({
  prefix: z.string().max(200).default(""),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  cursor: z.string().max(1000).optional(),
});
export type CacheKeysQuery = z.infer<typeof CacheKeysQuery>;

export const CacheKeys = z
  .object({
    items: z.array(z.object({ key: z.string(), ttlSeconds: count })),
    nextCursor: z.string().nullable(),
  })
  .openapi("CacheKeys");
