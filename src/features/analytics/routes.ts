import { z } from "@hono/zod-openapi";
import { json, jsonBody, sendJson } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import { createSseEncoder, type SseStreams } from "../../http/sse.ts";
import {
  Breakdown,
  EventProperties,
  Funnel,
  MetricsAnswer,
  ProductStats,
  ProductTimeseries,
  Realtime,
  Retention,
  Summary,
  SummaryPage,
  TopProducts,
  UserSummary,
} from "./answer-schema.ts";
import type { AnalyticsService, SummaryEvent } from "./index.ts";
import {
  BreakdownQuery,
  FunnelQuery,
  MetricsQueryBody,
  ProductStatsQuery,
  RangeQuery,
  RealtimeQuery,
  RetentionQuery,
  SummaryPageQuery,
  SummaryQuery,
  SummaryStreamQuery,
  TopQuery,
} from "./schema.ts";

const IdParam = z.object({ id: z.string().min(1).max(200) });
const tags = ["Analytics"];

export function createAnalyticsRoutes(analytics: AnalyticsService, streams: SseStreams) {
  const router = createRouter();
  addProductRoutes(router, analytics);
  addSummaryRoutes(router, analytics);
  addSummaryStream(router, analytics, streams);
  addBehaviourRoutes(router, analytics);
  return router;
}

type Router = ReturnType<typeof createRouter>;

function addProductRoutes(router: Router, analytics: AnalyticsService): void {
  const getTopProducts = defineRoute({
    operationId: "getTopProducts",
    method: "get",
    path: "/analytics/products/top",
    tags,
    summary: "The products with the most of a measure",
    etag: true,
    request: { query: TopQuery },
    responses: { 200: json(TopProducts, "Best first, ties by productId") },
  });
  router.openapi(getTopProducts, async (c) =>
    sendJson(c, await analytics.getTopProducts(requestContext(c), c.req.valid("query"))),
  );

  const getProductTimeseries = defineRoute({
    operationId: "getProductTimeseries",
    method: "get",
    path: "/analytics/products/{id}/timeseries",
    tags,
    summary: "One product day by day",
    etag: true,
    request: { params: IdParam, query: RangeQuery },
    responses: { 200: json(ProductTimeseries, "A point a day, zeros where nothing happened") },
  });
  router.openapi(getProductTimeseries, async (c) => {
    const { id } = c.req.valid("param");
    return sendJson(c, await analytics.getProductTimeseries(requestContext(c), id, c.req.valid("query")));
  });

  const getProductStats = defineRoute({
    operationId: "getProductStats",
    method: "get",
    path: "/analytics/products/stats",
    tags,
    summary: "The table of all products",
    etag: true,
    description:
      "The live products of the catalogue, with or without events, and every other product that has events in the range. A deleted product keeps its name; one that the catalogue never knew has none.",
    request: { query: ProductStatsQuery },
    responses: { 200: json(ProductStats, "A page; ties by productId") },
  });
  router.openapi(getProductStats, async (c) =>
    sendJson(c, await analytics.getProductStats(requestContext(c), c.req.valid("query"))),
  );
}

function addSummaryRoutes(router: Router, analytics: AnalyticsService): void {
  const getMySummary = defineRoute({
    operationId: "getMySummary",
    method: "get",
    path: "/analytics/users/me/summary",
    tags,
    summary: "What I have done",
    etag: true,
    request: { query: RangeQuery },
    responses: { 200: json(UserSummary, "Totals of the signed-in user") },
  });
  router.openapi(getMySummary, async (c) =>
    sendJson(c, await analytics.getMySummary(requestContext(c), c.req.valid("query"))),
  );

  const getUserSummary = defineRoute({
    operationId: "getUserSummary",
    method: "get",
    path: "/analytics/users/{id}/summary",
    tags,
    summary: "What a user has done",
    etag: true,
    request: { params: IdParam, query: RangeQuery },
    responses: { 200: json(UserSummary, "Totals of the user; zeros for one never seen") },
  });
  router.openapi(getUserSummary, async (c) => {
    const { id } = c.req.valid("param");
    return sendJson(c, await analytics.getUserSummary(requestContext(c), id, c.req.valid("query")));
  });

  const getSummary = defineRoute({
    operationId: "getSummary",
    method: "get",
    path: "/analytics/summary",
    tags,
    summary: "Totals, event types and a series of the whole shop",
    etag: true,
    request: { query: SummaryQuery },
    responses: { 200: json(Summary, "Gaps are filled with zeros") },
  });
  router.openapi(getSummary, async (c) =>
    sendJson(c, await analytics.getSummary(requestContext(c), c.req.valid("query"))),
  );

  const getSummaryPage = defineRoute({
    operationId: "getSummaryPage",
    method: "get",
    path: "/analytics/summary/paginated",
    tags,
    summary: "The series of the whole shop, page by page",
    etag: true,
    request: { query: SummaryPageQuery },
    responses: { 200: json(SummaryPage, "The oldest bucket first, gaps filled with zeros") },
  });
  router.openapi(getSummaryPage, async (c) =>
    c.json(await analytics.getSummaryPage(requestContext(c), c.req.valid("query")), 200),
  );
}

const framesOf = createSseEncoder(({ event, data }: SummaryEvent) => [{ event, data: JSON.stringify(data) }]);

function addSummaryStream(router: Router, analytics: AnalyticsService, streams: SseStreams): void {
  const streamSummary = defineRoute({
    operationId: "streamSummary",
    method: "get",
    path: "/analytics/summary/stream",
    tags,
    summary: "Follow the summary of the whole shop as server-sent events",
    description:
      "Every `summary` event holds what GET /analytics/summary answers: one at once, one within seconds of a change, one at least every five seconds. `unavailable` comes instead while there is no answer. Events have no id: the next one says everything. Credentials go in headers, so use a client that can set them (EventSource can't). Streams end after half an hour, when the credential is no longer valid, and for who does not read; come again.",
    request: { query: SummaryStreamQuery },
    responses: {
      200: {
        description: "Until either side ends it",
        content: { "text/event-stream": { schema: z.string() } },
      },
    },
  });
  router.openapi(streamSummary, (c) =>
    streams.open(c, (stream) =>
      analytics.followSummary(requestContext(c), c.req.valid("query"), {
        signal: stream.signal,
        drained: () => stream.drained(),
        deliver: (event) => stream.send(framesOf(event)),
        fail: (error) => stream.fail(error),
      }),
    ),
  );
}

function addBehaviourRoutes(router: Router, analytics: AnalyticsService): void {
  const getBreakdown = defineRoute({
    operationId: "getBreakdown",
    method: "get",
    path: "/analytics/breakdown",
    tags,
    summary: "The values of a property with the most of a measure",
    etag: true,
    request: { query: BreakdownQuery },
    description:
      "Of the properties that the tenant has chosen (GET /tenants/current/properties); any other is a 400 that lists them. `notes` says when earlier events are still being counted.",
    responses: { 200: json(Breakdown, "Best first, ties by value") },
  });
  router.openapi(getBreakdown, async (c) =>
    sendJson(c, await analytics.getBreakdown(requestContext(c), c.req.valid("query"))),
  );

  const findProperties = defineRoute({
    operationId: "findProperties",
    method: "get",
    path: "/analytics/properties",
    tags,
    summary: "What events carry",
    etag: true,
    description:
      "Names, types and most frequent values of the properties of the newest events, at most 5,000 (`sampled` says how many and of when), looked at once a minute at the most. PUT /tenants/current/properties chooses those that breakdowns know.",
    responses: { 200: json(EventProperties, "The most frequent first") },
  });
  router.openapi(findProperties, async (c) => c.json(await analytics.findProperties(requestContext(c)), 200));

  const getFunnel = defineRoute({
    operationId: "getFunnel",
    method: "get",
    path: "/analytics/funnel",
    tags,
    summary: "How many users take one step after the other",
    etag: true,
    description:
      "Per unique user (userId, else anonymousId, else sessionId). A chain begins with an event of the first type in the range; every next step is another event of its type, not earlier than the one before and no later than windowHours after the first. Events of equal time count as in any order, so the same data always gives the same funnel. Of all chains of a user the deepest counts. Reads raw events, over at most 93 days.",
    request: { query: FunnelQuery },
    responses: { 200: json(Funnel, "Users by the step that they reached") },
  });
  router.openapi(getFunnel, async (c) =>
    sendJson(c, await analytics.getFunnel(requestContext(c), c.req.valid("query"))),
  );

  const getRetention = defineRoute({
    operationId: "getRetention",
    method: "get",
    path: "/analytics/retention",
    tags,
    summary: "Who comes back",
    etag: true,
    description:
      "Cohorts of users by the period in which they first came ever, and how many of them were active in each period since. The range is widened to begin with a whole period; by default the last 14 days, 12 weeks or 12 months.",
    request: { query: RetentionQuery },
    responses: { 200: json(Retention, "A row a cohort, the oldest first") },
  });
  router.openapi(getRetention, async (c) =>
    sendJson(c, await analytics.getRetention(requestContext(c), c.req.valid("query"))),
  );

  const getRealtime = defineRoute({
    operationId: "getRealtime",
    method: "get",
    path: "/analytics/realtime",
    tags,
    summary: "The last thirty minutes",
    etag: true,
    description:
      "Reads raw events, so that nothing waits for a rollup; an answer is shared for five seconds.",
    request: { query: RealtimeQuery },
    responses: { 200: json(Realtime, "Minute by minute, this one included") },
  });
  router.openapi(getRealtime, async (c) =>
    sendJson(c, await analytics.getRealtime(requestContext(c), c.req.valid("query"))),
  );

  const queryMetrics = defineRoute({
    operationId: "queryMetrics",
    method: "post",
    path: "/analytics/query",
    tags,
    summary: "Ask the rollups for metrics by dimensions",
    description:
      "Reads only. Together can be asked: all measures by time and type (hours, and other time zones); by time and product; by time and a value of one property; by time and user, with uniqueUsers and activeDays; sessions by time. What no rollup holds together is a 400. `truncated` says that there are more rows; `nextCursor`, as `cursor` of the same question, asks for them.",
    request: jsonBody(MetricsQueryBody),
    responses: { 200: json(MetricsAnswer, "A row a combination that has events") },
  });
  router.openapi(queryMetrics, async (c) =>
    sendJson(c, await analytics.queryMetrics(requestContext(c), c.req.valid("json"))),
  );
}
