import { json, jsonBody } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { SessionLinks } from "./index.ts";
import { LinkSession, SessionLinked } from "./schema.ts";

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
