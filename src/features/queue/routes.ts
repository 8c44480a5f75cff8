import { z } from "@hono/zod-openapi";
import { json, PageQuery, pageOf } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { QueueService } from "./index.ts";
import { DeadLetter, QueueStats, WorkerStats, WorkerStatus } from "./schema.ts";

const tags = ["Queue"];

export function createQueueRoutes(queue: QueueService) {
  const router = createRouter();

  const getQueueStats = defineRoute({
    operationId: "getQueueStats",
    method: "get",
    path: "/queue/stats",
    tags,
    summary: "How many order commands wait, for how long, and what became of others",
    responses: { 200: json(QueueStats, "The tenant's") },
  });
  router.openapi(getQueueStats, async (c) => c.json(await queue.getStats(requestContext(c)), 200));

  const purgeQueue = defineRoute({
    operationId: "purgeQueue",
    method: "delete",
    path: "/queue/purge",
    tags,
    summary: "Cancel every order that still waits to be handled",
    description:
      "They become cancelled with the reason `purged`. What a worker has under way goes on, and so do commands on orders that were accepted before.",
    responses: {
      200: json(z.object({ purged: z.number().int() }), "How many orders; at most 50,000 at once"),
    },
  });
  router.openapi(purgeQueue, async (c) => c.json({ purged: await queue.purge(requestContext(c)) }, 200));

  const getWorkerStatus = defineRoute({
    operationId: "getWorkerStatus",
    method: "get",
    path: "/worker/status",
    tags,
    summary: "Which workers live",
    responses: { 200: json(WorkerStatus, "By their heartbeats") },
  });
  router.openapi(getWorkerStatus, async (c) => c.json(await queue.getWorkerStatus(requestContext(c)), 200));

  const getWorkerStats = defineRoute({
    operationId: "getWorkerStats",
    method: "get",
    path: "/worker/stats",
    tags,
    summary: "What the workers handled for this tenant in the last minute",
    responses: { 200: json(WorkerStats, "In all and by worker") },
  });
  router.openapi(getWorkerStats, async (c) => c.json(await queue.getWorkerStats(requestContext(c)), 200));

  const listDeadLetters = defineRoute({
    operationId: "listDeadLetters",
    method: "get",
    path: "/queue/dead-letters",
    tags,
    summary: "List what was given up, with its error: event batches and order commands",
    request: { query: PageQuery },
    responses: { 200: json(pageOf(DeadLetter, "DeadLetterPage"), "A page, the oldest first") },
  });
  router.openapi(listDeadLetters, async (c) =>
    c.json(await queue.listDeadLetters(requestContext(c), c.req.valid("query")), 200),
  );

  const retryDeadLetter = defineRoute({
    operationId: "retryDeadLetter",
    method: "post",
    path: "/queue/dead-letters/{id}/retry",
    tags,
    summary: "Give a dead letter all its tries again",
    description: "An order command goes to the end of its group.",
    request: { params: z.object({ id: z.string() }) },
    responses: { 202: { description: "It is tried again within seconds" } },
    problems: [404],
  });
  router.openapi(retryDeadLetter, async (c) => {
    await queue.retryDeadLetter(requestContext(c), c.req.valid("param").id);
    return c.body(null, 202);
  });

  return router;
}
