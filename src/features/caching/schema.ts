import { z } from "@hono/zod-openapi";
import { PageQuery, pageOf } from "../../http/responses.ts";

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

export const CacheKeysQuery = PageQuery.extend({
  prefix: z.string().max(200).default(""),
});
export type CacheKeysQuery = z.infer<typeof CacheKeysQuery>;

export const CacheKeys = pageOf(z.object({ key: z.string(), ttlSeconds: count }), "CacheKeys");
