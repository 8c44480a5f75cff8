import { z } from "@hono/zod-openapi";
import { json } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { AnalyticsService } from "./index.ts";
import {
  Breakdown,
  BreakdownQuery,
  ProductTimeseries,
  RangeQuery,
  Summary,
  SummaryQuery,
  TopProducts,
  TopQuery,
  UserSummary,
} from "./schema.ts";

const IdParam = z.object({ id: z.string().min(1).max(200) });
const tags = ["Analytics"];

export function createAnalyticsRoutes(analytics: AnalyticsService) {
  const router = createRouter();

  const getTopProducts = defineRoute({
    operationId: "getTopProducts",
    method: "get",
    path: "/analytics/products/top",
    tags,
    summary: "The products with the most of a measure",
    request: { query: TopQuery },
    responses: { 200: json(TopProducts, "Best first, ties by productId") },
  });
  router.openapi(getTopProducts, async (c) =>
    c.json(await analytics.getTopProducts(requestContext(c), c.req.valid("query")), 200),
  );

  const getProductTimeseries = defineRoute({
    operationId: "getProductTimeseries",
    method: "get",
    path: "/analytics/products/{id}/timeseries",
    tags,
    summary: "One product day by day",
    request: { params: IdParam, query: RangeQuery },
    responses: { 200: json(ProductTimeseries, "A point a day, zeros where nothing happened") },
  });
  router.openapi(getProductTimeseries, async (c) => {
    const { id } = c.req.valid("param");
    return c.json(await analytics.getProductTimeseries(requestContext(c), id, c.req.valid("query")), 200);
  });

  const getMySummary = defineRoute({
    operationId: "getMySummary",
    method: "get",
    path: "/analytics/users/me/summary",
    tags,
    summary: "What I have done",
    request: { query: RangeQuery },
    responses: { 200: json(UserSummary, "Totals of the signed-in user") },
  });
  router.openapi(getMySummary, async (c) =>
    c.json(await analytics.getMySummary(requestContext(c), c.req.valid("query")), 200),
  );

  const getUserSummary = defineRoute({
    operationId: "getUserSummary",
    method: "get",
    path: "/analytics/users/{id}/summary",
    tags,
    summary: "What a user has done",
    request: { params: IdParam, query: RangeQuery },
    responses: { 200: json(UserSummary, "Totals of the user; zeros for one never seen") },
  });
  router.openapi(getUserSummary, async (c) => {
    const { id } = c.req.valid("param");
    return c.json(await analytics.getUserSummary(requestContext(c), id, c.req.valid("query")), 200);
  });

  const getSummary = defineRoute({
    operationId: "getSummary",
    method: "get",
    path: "/analytics/summary",
    tags,
    summary: "Totals, event types and a series of the whole shop",
    request: { query: SummaryQuery },
    responses: { 200: json(Summary, "Gaps are filled with zeros") },
  });
  router.openapi(getSummary, async (c) =>
    c.json(await analytics.getSummary(requestContext(c), c.req.valid("query")), 200),
  );

  const getBreakdown = defineRoute({
    operationId: "getBreakdown",
    method: "get",
    path: "/analytics/breakdown",
    tags,
    summary: "The values of a property with the most of a measure",
    request: { query: BreakdownQuery },
    responses: { 200: json(Breakdown, "Best first, ties by value") },
  });
  router.openapi(getBreakdown, async (c) =>
    c.json(await analytics.getBreakdown(requestContext(c), c.req.valid("query")), 200),
  );

  return router;
}
