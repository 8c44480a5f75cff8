import { createDeliveryLog } from "./delivery-log.ts";
import { createEndpoints, type WebhooksDeps } from "./endpoints.ts";

export type WebhooksService = ReturnType<typeof createWebhooksService>;

/** What admins do with webhooks. The sending is the worker's: see deliveries.ts. */
export function createWebhooksService(deps: WebhooksDeps) {
  return { ...createEndpoints(deps), ...createDeliveryLog(deps) };
}
