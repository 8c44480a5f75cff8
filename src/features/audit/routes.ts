import { z } from "@hono/zod-openapi";
import { Instant, json, PageQuery, pageOf } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { AuditService } from "./index.ts";

const AuditEntry = z
  .object({
    id: z.uuid(),
    at: Instant,
    actorKind: z.enum(["user", "apiKey", "operator"]),
    actorId: z.string(),
    action: z.string().openapi({ example: "api_key.created" }),
    target: z.string(),
    before: z.record(z.string(), z.unknown()).nullable(),
    after: z.record(z.string(), z.unknown()).nullable(),
    requestId: z.string(),
  })
  .openapi("AuditEntry");

export function createAuditRoutes(audit: AuditService) {
  const router = createRouter();

  const listAudit = defineRoute({
    operationId: "listAudit",
    method: "get",
    path: "/audit",
    tags: ["Identity"],
    summary: "Who changed what, newest first",
    request: { query: PageQuery },
    responses: {
      200: json(pageOf(AuditEntry, "AuditPage"), "A page"),
    },
  });
  router.openapi(listAudit, async (c) =>
    c.json(await audit.listAudit(requestContext(c), c.req.valid("query")), 200),
  );

  return router;
}
