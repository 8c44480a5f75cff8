import type { DomainConsumer } from "../core/domain-events.ts";
import { keys } from "../redis/keys.ts";

/** Which streams exist, who reads them and how far they may grow. */
export interface StreamTopology {
  key: string;
  group: string;
  /**
   * Approximate cap; trimming loses nothing, since every message only announces what is in
   * Postgres.
   */
  maxLength: number;
  /** Read by several groups: a handled entry is left to the trimming. */
  shared?: boolean;
}

export const EVENT_BATCHES: StreamTopology = {
  key: keys.stream("event-batches"),
  group: "rollup",
  maxLength: 200_000,
};

/** Order commands. */
export const ORDER_COMMANDS: StreamTopology = {
  key: keys.stream("order-commands"),
  group: "orders",
  maxLength: 200_000,
};

/** Domain events. */
export const DOMAIN_STREAM = { key: keys.stream("domain"), maxLength: 100_000 };

/** One of the groups that read domain events. */
export function domainGroup(consumer: DomainConsumer): StreamTopology {
  return { ...DOMAIN_STREAM, group: consumer, shared: true };
}
