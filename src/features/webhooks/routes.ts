import { z } from "@hono/zod-openapi";
import { json, jsonBody, PageQuery, pageOf } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { WebhooksService } from "./index.ts";
import {
  DeliveriesQuery,
  Webhook,
  WebhookChange,
  WebhookDelivery,
  WebhookInput,
  WebhookWithSecret,
} from "./schema.ts";

const tags = ["Webhooks"];
const IdParam = z.object({ id: z.string() });
const DeliveryParam = z.object({ id: z.string(), deliveryId: z.string() });

export function createWebhookRoutes(webhooks: WebhooksService) {
  const router = createRouter();
  addEndpointRoutes(router, webhooks);
  addSecretRoute(router, webhooks);
  addDeliveryRoutes(router, webhooks);
  return router;
}

type Router = ReturnType<typeof createRouter>;

function addEndpointRoutes(router: Router, webhooks: WebhooksService): void {
  const listWebhooks = defineRoute({
    operationId: "listWebhooks",
    method: "get",
    path: "/webhooks",
    tags,
    summary: "List the webhooks, newest first",
    request: { query: PageQuery },
    responses: {
      200: json(pageOf(Webhook, "WebhookPage"), "A page"),
    },
  });
  router.openapi(listWebhooks, async (c) =>
    c.json(await webhooks.listWebhooks(requestContext(c), c.req.valid("query")), 200),
  );

  const createWebhook = defineRoute({
    operationId: "createWebhook",
    method: "post",
    path: "/webhooks",
    tags,
    summary: "Have domain events sent to a URL",
    description:
      "Messages follow the Standard Webhooks specification: verify `webhook-signature` with the secret, answer 2xx " +
      "within 15 seconds, and expect the same `webhook-id` more than once. Failed deliveries are tried again for about a day.",
    request: jsonBody(WebhookInput),
    responses: { 201: json(WebhookWithSecret, "The webhook; `secret` is shown this once") },
    problems: [409],
  });
  router.openapi(createWebhook, async (c) =>
    c.json(await webhooks.createWebhook(requestContext(c), c.req.valid("json")), 201),
  );

  const getWebhook = defineRoute({
    operationId: "getWebhook",
    method: "get",
    path: "/webhooks/{id}",
    tags,
    summary: "Read a webhook",
    etag: true,
    request: { params: IdParam },
    responses: { 200: json(Webhook, "The webhook, without its secret") },
    problems: [404],
  });
  router.openapi(getWebhook, async (c) =>
    c.json(await webhooks.getWebhook(requestContext(c), c.req.valid("param").id), 200),
  );

  const updateWebhook = defineRoute({
    operationId: "updateWebhook",
    method: "patch",
    path: "/webhooks/{id}",
    tags,
    summary: "Change, enable or disable a webhook",
    request: { params: IdParam, ...jsonBody(WebhookChange) },
    responses: { 200: json(Webhook, "The webhook as it is now") },
    problems: [404],
  });
  router.openapi(updateWebhook, async (c) => {
    const { id } = c.req.valid("param");
    return c.json(await webhooks.updateWebhook(requestContext(c), id, c.req.valid("json")), 200);
  });

  const deleteWebhook = defineRoute({
    operationId: "deleteWebhook",
    method: "delete",
    path: "/webhooks/{id}",
    tags,
    summary: "Delete a webhook and end its deliveries",
    request: { params: IdParam },
    responses: { 204: { description: "Nothing more is sent" } },
    problems: [404],
  });
  router.openapi(deleteWebhook, async (c) => {
    await webhooks.deleteWebhook(requestContext(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
}

function addSecretRoute(router: Router, webhooks: WebhooksService): void {
  const rotateWebhookSecret = defineRoute({
    operationId: "rotateWebhookSecret",
    method: "post",
    path: "/webhooks/{id}/rotate-secret",
    tags,
    summary: "Replace the secret; for 24 hours messages are signed with the former one, too",
    description: "Rotated again within that time, the secret before the last one signs no longer.",
    request: { params: IdParam },
    responses: { 200: json(WebhookWithSecret, "The webhook; the new `secret` is shown this once") },
    problems: [404],
  });
  router.openapi(rotateWebhookSecret, async (c) =>
    c.json(await webhooks.rotateSecret(requestContext(c), c.req.valid("param").id), 200),
  );
}

function addDeliveryRoutes(router: Router, webhooks: WebhooksService): void {
  const listWebhookDeliveries = defineRoute({
    operationId: "listWebhookDeliveries",
    method: "get",
    path: "/webhooks/{id}/deliveries",
    tags,
    summary: "List a webhook's deliveries of the last 30 days, newest first",
    request: { params: IdParam, query: DeliveriesQuery },
    responses: {
      200: json(pageOf(WebhookDelivery, "WebhookDeliveryPage"), "A page"),
    },
    problems: [404],
  });
  router.openapi(listWebhookDeliveries, async (c) => {
    const { id } = c.req.valid("param");
    return c.json(await webhooks.listDeliveries(requestContext(c), id, c.req.valid("query")), 200);
  });

  const replayWebhookDelivery = defineRoute({
    operationId: "replayWebhookDelivery",
    method: "post",
    path: "/webhooks/{id}/deliveries/{deliveryId}/replay",
    tags,
    summary: "Send a finished delivery's message again, with the same webhook-id",
    request: { params: DeliveryParam },
    responses: { 202: json(WebhookDelivery, "The new delivery") },
    problems: [404, 409],
  });
  router.openapi(replayWebhookDelivery, async (c) => {
    const { id, deliveryId } = c.req.valid("param");
    return c.json(await webhooks.replayDelivery(requestContext(c), id, deliveryId), 202);
  });

  const testWebhook = defineRoute({
    operationId: "testWebhook",
    method: "post",
    path: "/webhooks/{id}/test",
    tags,
    summary: "Send a message of type webhook.test",
    request: { params: IdParam },
    responses: { 202: json(WebhookDelivery, "The delivery") },
    problems: [404, 409],
  });
  router.openapi(testWebhook, async (c) =>
    c.json(await webhooks.testWebhook(requestContext(c), c.req.valid("param").id), 202),
  );
}
