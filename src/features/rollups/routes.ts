import { z } from "@hono/zod-openapi";
import { json, jsonBody } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { EventVoids, PropertiesService, SessionLinks } from "./index.ts";
import { LinkSession, Properties, PropertiesChoice, SessionLinked, VoidedEvent } from "./schema.ts";

export function createStoredEventRoutes(sessions: SessionLinks, voids: EventVoids) {
  const router = createRouter();

  const voidEvent = defineRoute({
    operationId: "voidEvent",
    method: "post",
    path: "/events/{id}/void",
    tags: ["Events"],
    summary: "Take an event out of every figure",
    description:
      "For events that are wrong. What is computed from the answer on leaves it out (analytics with meta.cache stale were computed before); lists and exports still hold it, with `voidedAt`. It can't be taken back: send the right event instead, with another messageId. Audited. An event that an order or a purchase made here has written is a 409, since revenue equals the orders.",
    request: { params: z.object({ id: z.string() }) },
    responses: { 200: json(VoidedEvent, "It counts in no figure any more") },
    problems: [404, 409],
  });
  router.openapi(voidEvent, async (c) =>
    c.json(await voids.voidEvent(requestContext(c), c.req.valid("param").id), 200),
  );

  const linkSession = defineRoute({
    operationId: "linkSession",
    method: "post",
    path: "/events/link-session",
    tags: ["Events"],
    summary: "Give a session's anonymous events to me",
    description:
      "The acknowledged events of the session that have no userId become the signed-in user's, and analytics follow. Those of other users stay theirs. At most 100,000 events a call; calling again links what is left, and what came since.",
    request: jsonBody(LinkSession),
    responses: { 200: json(SessionLinked, "How many events changed hands") },
  });
  router.openapi(linkSession, async (c) => {
    const linked = await sessions.linkSession(requestContext(c), c.req.valid("json").sessionId);
    return c.json({ linked }, 200);
  });

  return router;
}

export function createPropertyRoutes(properties: PropertiesService) {
  const router = createRouter();
  const tags = ["Analytics"];

  const listProperties = defineRoute({
    operationId: "listProperties",
    method: "get",
    path: "/tenants/current/properties",
    tags,
    summary: "The properties that breakdowns know",
    etag: true,
    responses: { 200: json(Properties, "With how far each is counted") },
  });
  router.openapi(listProperties, async (c) =>
    c.json(await properties.listProperties(requestContext(c)), 200),
  );

  const chooseProperties = defineRoute({
    operationId: "chooseProperties",
    method: "put",
    path: "/tenants/current/properties",
    tags,
    summary: "Choose the properties that breakdowns know",
    description:
      "All of them, at most 30: what is not named is given up, and its counts are deleted in the background. A new one is counted in every event from now on, and filled in the background from the events that are stored. GET /analytics/properties shows what events carry.",
    request: jsonBody(PropertiesChoice),
    responses: { 200: json(Properties, "With how far each is counted") },
  });
  router.openapi(chooseProperties, async (c) =>
    c.json(await properties.chooseProperties(requestContext(c), c.req.valid("json").properties), 200),
  );

  return router;
}
