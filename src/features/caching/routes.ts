import { json } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { CachingService } from "./index.ts";
import { CacheKeys, CacheKeysQuery, CacheStats } from "./schema.ts";

const tags = ["Cache"];
const CLEARED = { 204: { description: "From now on every answer is computed anew" } };

export function createCachingRoutes(caching: CachingService) {
  const router = createRouter();

  const getCacheStats = defineRoute({
    operationId: "getCacheStats",
    method: "get",
    path: "/cache/stats",
    tags,
    summary: "How often my tenant's reads were answered from the cache in the last day",
    responses: { 200: json(CacheStats, "Counts of all processes") },
  });
  router.openapi(getCacheStats, async (c) => c.json(await caching.getCacheStats(requestContext(c)), 200));

  const listCacheKeys = defineRoute({
    operationId: "listCacheKeys",
    method: "get",
    path: "/cache/keys",
    tags,
    summary: "What is cached for my tenant",
    description:
      "A page may be empty and yet have a next one; an entry may come twice. Outdated and cleared entries stay listed until they are forgotten: none of them is a hit, and no cleared one is served.",
    request: { query: CacheKeysQuery },
    responses: { 200: json(CacheKeys, "A page, in no order") },
  });
  router.openapi(listCacheKeys, async (c) =>
    c.json(await caching.listCacheKeys(requestContext(c), c.req.valid("query")), 200),
  );

  const clearCache = defineRoute({
    operationId: "clearCache",
    method: "delete",
    path: "/cache/clear",
    tags,
    summary: "Forget everything that is cached for my tenant",
    responses: CLEARED,
  });
  router.openapi(clearCache, async (c) => {
    await caching.clearCache(requestContext(c));
    return c.body(null, 204);
  });

  const getAnalyticsCacheStats = defineRoute({
    operationId: "getAnalyticsCacheStats",
    method: "get",
    path: "/analytics/cache/stats",
    tags,
    summary: "The same for analytics alone",
    etag: true,
    responses: { 200: json(CacheStats, "Counts of all processes") },
  });
  router.openapi(getAnalyticsCacheStats, async (c) =>
    c.json(await caching.getAnalyticsCacheStats(requestContext(c)), 200),
  );

  const clearAnalyticsCache = defineRoute({
    operationId: "clearAnalyticsCache",
    method: "post",
    path: "/analytics/cache/clear",
    tags,
    summary: "Forget the cached analytics of my tenant",
    responses: CLEARED,
  });
  router.openapi(clearAnalyticsCache, async (c) => {
    await caching.clearAnalyticsCache(requestContext(c));
    return c.body(null, 204);
  });

  return router;
}
