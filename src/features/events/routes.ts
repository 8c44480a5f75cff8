import { z } from "@hono/zod-openapi";
import type { InTime } from "../../core/deadline.ts";
import { parseJson, readText } from "../../http/body.ts";
import type { Downloads } from "../../http/download.ts";
import { json } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext, routeWithOwnBody } from "../../http/router.ts";
import { BULK_EXAMPLE, EVENT_EXAMPLES } from "./examples.ts";
import { checkBulkQuery, checkFrame, type EventsService, NDJSON, parseLines } from "./index.ts";
import {
  BeaconQuery,
  BulkAccepted,
  BulkInput,
  BulkQuery,
  EventAccepted,
  EventExportQuery,
  EventInput,
  EventListQuery,
  EventPage,
  ExportedLine,
  SingleEventInput,
  StoredEvent,
} from "./schema.ts";

const JSON_TYPE = "application/json";
const CSV_TYPE = "text/csv";
/** JSON as well: with this type a browser sends an event to another origin without a preflight. */
const BEACON_TYPE = "text/plain";

/** What both ways of sending events say about sales; docs/money.md has all of it. */
const MONEY = [
  "purchase and refund take properties.quantity (a whole number, 1 unless given) and properties.price (of one unit) or properties.revenue (of the line), and count in purchases, units and revenue.",
  "adjustment takes the same, its amount may be negative, and it counts in revenue alone.",
  "A purchase or refund of a product of the catalogue without either takes the catalogue's present price, which the stored event says with priceSource: catalogue; a purchase of an unknown product is refused then (price_required).",
  "properties.currency is the tenant's (400 currency_mismatch), or one that its exchangeRates have a rate for on the event's day: the line is converted then and rounded to four decimals, and the stored event keeps the original beside converted.",
  "What is sent in vain, such as revenue beside price, is told in warnings.",
  "From a customer or a publishable key sales are refused (403 sales_not_trusted; one of many events: rejected with this code) unless the tenant's trustedSales is on.",
].join(" ");

const BEACON =
  "As text/plain the body is JSON, too; with a publishable key as ?key= a browser sends it to another origin without a preflight, as navigator.sendBeacon does.";

export interface EventRouteLimits {
  maxBodyBytes: number;
  maxBulkBytes: number;
  /** Ends the read of a body that takes too long. */
  inTime: InTime;
}

export function createEventRoutes(events: EventsService, downloads: Downloads, limits: EventRouteLimits) {
  const router = createRouter();
  const singleLimits = { maxBytes: limits.maxBodyBytes, mediaTypes: [JSON_TYPE, BEACON_TYPE] };
  const bulkLimits = { maxBytes: limits.maxBulkBytes, mediaTypes: [JSON_TYPE, NDJSON, BEACON_TYPE] };

  const createEvent = defineRoute({
    operationId: "createEvent",
    method: "post",
    path: "/events",
    tags: ["Events"],
    summary: "Record one event",
    description: `The answer means: committed in Postgres. With a messageId, sending again is safe for seven days. ${BEACON} ${MONEY}`,
    request: {
      query: BeaconQuery,
      body: {
        required: true,
        content: {
          [JSON_TYPE]: { schema: SingleEventInput, examples: EVENT_EXAMPLES },
          [BEACON_TYPE]: { schema: SingleEventInput, examples: EVENT_EXAMPLES },
        },
      },
    },
    responses: { 202: json(EventAccepted, "Committed") },
  });
  routeWithOwnBody(router, createEvent, async (c) => {
    const { text } = await limits.inTime(readText(c.req.raw, singleLimits));
    const outcome = await events.createEvent(requestContext(c), parseJson(text));
    return c.json({ accepted: true, ...outcome }, 202);
  });

  const createEvents = defineRoute({
    operationId: "createEvents",
    method: "post",
    path: "/events/bulk",
    tags: ["Events"],
    summary: "Record up to 2,000 events",
    description: `JSON or NDJSON, optionally gzipped. Valid events are stored and the others reported; with strict=true all or none. ${BEACON} ${MONEY}`,
    request: {
      query: BulkQuery,
      body: {
        required: true,
        content: {
          [JSON_TYPE]: { schema: BulkInput, examples: { visit: BULK_EXAMPLE } },
          [NDJSON]: { schema: EventInput, examples: { view: EVENT_EXAMPLES.view } },
          [BEACON_TYPE]: { schema: BulkInput, examples: { visit: BULK_EXAMPLE } },
        },
      },
    },
    responses: { 202: json(BulkAccepted, "Committed; received = inserted + duplicates + rejected") },
  });
  routeWithOwnBody(router, createEvents, async (c) => {
    const options = checkBulkQuery(c.req.query());
    const { mediaType, text } = await readText(c.req.raw, bulkLimits);
    const frame = checkFrame(mediaType === NDJSON ? parseLines(text) : parseJson(text));
    const result = await events.createEvents(requestContext(c), frame, options);
    return c.json({ accepted: true, ...result }, 202);
  });

  const listEvents = defineRoute({
    operationId: "listEvents",
    method: "get",
    path: "/events",
    tags: ["Events"],
    summary: "List events, newest first",
    request: { query: EventListQuery },
    responses: { 200: json(EventPage, "A page") },
  });
  router.openapi(listEvents, async (c) =>
    c.json(await events.listEvents(requestContext(c), c.req.valid("query")), 200),
  );

  // Before GET /events/{id}, which would take "export" for an id.
  const exportEvents = defineRoute({
    operationId: "exportEvents",
    method: "get",
    path: "/events/export",
    tags: ["Events"],
    summary: "Export events, newest first, as a stream",
    headers: ["Content-Disposition"],
    description:
      'One event a line, or a CSV row whose cells are safe to open in a spreadsheet. The last line is the count, {"count":n} or # count=n: an export without it was cut off. Every event that was stored when the export began appears exactly once; those stored meanwhile may or may not. Few exports run at once (503 above that), and one whose client stops reading is cut off.',
    request: { query: EventExportQuery },
    responses: {
      200: {
        description: "All events of the filter",
        content: { [NDJSON]: { schema: ExportedLine }, [CSV_TYPE]: { schema: z.string() } },
      },
    },
  });
  router.openapi(exportEvents, async (c) => {
    const query = c.req.valid("query");
    const file =
      query.format === "csv"
        ? { name: "events.csv", mediaType: CSV_TYPE }
        : { name: "events.ndjson", mediaType: NDJSON };
    return downloads.send(c, file, () => events.exportEvents(requestContext(c), query)) as never;
  });

  const getEvent = defineRoute({
    operationId: "getEvent",
    method: "get",
    path: "/events/{id}",
    tags: ["Events"],
    summary: "Read one event",
    etag: true,
    request: { params: z.object({ id: z.string() }) },
    responses: { 200: json(StoredEvent, "The event") },
    problems: [404],
  });
  router.openapi(getEvent, async (c) =>
    c.json(await events.getEvent(requestContext(c), c.req.valid("param").id), 200),
  );

  return router;
}
