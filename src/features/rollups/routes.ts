import { z } from "@hono/zod-openapi";
import { Instant, json, jsonBody } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { RollupService, SessionLinks } from "./index.ts";
import { LinkSession, SessionLinked } from "./schema.ts";

const DeadLetter = z
  .object({
    id: z.uuid(),
    kind: z.literal("event_batch"),
    events: z.number().int(),
    attempts: z.number().int(),
    error: z.string(),
    receivedAt: Instant,
    deadLetteredAt: Instant,
  })
  .openapi("DeadLetter");

export function createQueueRoutes(rollups: RollupService) {
  const router = createRouter();

  const listDeadLetters = defineRoute({
    operationId: "listDeadLetters",
    method: "get",
    path: "/queue/dead-letters",
    tags: ["Queue"],
    summary: "List the batches that could not be rolled up, with their error",
    responses: { 200: json(z.object({ items: z.array(DeadLetter) }), "The oldest 100") },
  });
  router.openapi(listDeadLetters, async (c) =>
    c.json({ items: await rollups.listDeadLetters(requestContext(c)) }, 200),
  );

  const retryDeadLetter = defineRoute({
    operationId: "retryDeadLetter",
    method: "post",
    path: "/queue/dead-letters/{id}/retry",
    tags: ["Queue"],
    summary: "Give a dead letter all its tries again",
    request: { params: z.object({ id: z.string() }) },
    responses: { 202: { description: "It is tried again within seconds" } },
    problems: [404],
  });
  router.openapi(retryDeadLetter, async (c) => {
    await rollups.retryDeadLetter(requestContext(c), c.req.valid("param").id);
    return c.body(null, 202);
  });

  return router;
}

export function createSessionRoutes(sessions: SessionLinks) {
  const router = createRouter();

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
