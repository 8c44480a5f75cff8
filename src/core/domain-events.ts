/** What happens to products and orders, told to notifications, webhooks and browsers. */
export const TOPICS = [
  "product.created",
  "product.updated",
  "product.deleted",
  "product.restored",
  "product.lowstock",
  "import.finished",
  "order.created",
  "order.rejected",
  "order.status_changed",
  "order.cancelled",
] as const;
export type Topic = (typeof TOPICS)[number];

/** The consumer groups of the domain stream. Each handles an event once. */
export const DOMAIN_CONSUMERS = ["notifications", "webhooks"] as const;
export type DomainConsumer = (typeof DOMAIN_CONSUMERS)[number];

/**
 * `payload` is the event's `data` for clients: the states before and after, or what the topic is
 * about.
 */
export interface DomainEvent {
  topic: Topic;
  subjectId: string;
  sellerId: string | null;
  payload: object;
  /** Which consumers get it; all by default. */
  consumers?: readonly DomainConsumer[];
}
