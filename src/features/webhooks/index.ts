export {
  type Address,
  type AddressGuard,
  createAddressGuard,
  type Resolve,
  resolveBySystem,
} from "./address-guard.ts";
export { createWebhookDeliveries, type WebhookDeliveries } from "./deliveries.ts";
export type { Busy, ClaimedDelivery } from "./deliveries-repository.ts";
export { createWebhooksService, type WebhooksService } from "./service.ts";
