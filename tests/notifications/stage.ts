import type { DomainEvent } from "../../src/core/domain-events.ts";
import { newId } from "../../src/core/ids.ts";
import { insertDomainEvents } from "../../src/features/outbox/index.ts";
import { createNotificationConsumer } from "../../worker/consumers/domain-events.ts";
import { createRelay } from "../../worker/jobs/relay.ts";
import { createPerson, type TestApi, type TestTenant } from "../factories.ts";
import { onCleanup } from "../harness.ts";

/** Relay and consumer in this process, run by hand. */
export interface Handling {
  /**
   * Announces what is due and handles it, until nothing is left; returns how many messages were
   * handled.
   */
  handleAll(): Promise<number>;
}

export function createHandling({ deps }: Pick<TestApi, "deps">): Handling {
  const relay = createRelay(deps);
  const consumer = createNotificationConsumer(deps, `test-${newId()}`);
  onCleanup(() => consumer.stop());
  return {
    async handleAll() {
      while ((await relay.runOnce()) > 0);
      let handled = 0;
      // The first read after a wipe makes the group anew and returns nothing.
      for (let empty = 0; empty < 2; ) {
        const messages = await consumer.runOnce({ block: false });
        handled += messages;
        empty = messages === 0 ? empty + 1 : 0;
      }
      return handled;
    },
  };
}

/**
 * As the transaction of a change leaves them. By default only the notifications consumer is told.
 */
export async function emit(
  { deps }: Pick<TestApi, "deps">,
  { tenantId }: Pick<TestTenant, "tenantId">,
  events: readonly Partial<DomainEvent>[],
): Promise<void> {
  const complete = events.map(
    (event): DomainEvent => ({
      topic: "product.updated",
      subjectId: "p-1",
      sellerId: null,
      payload: { before: { price: 1 }, after: { price: 2 } },
      consumers: ["notifications"],
      ...event,
    }),
  );
  await deps.db.transaction((tx) => insertDomainEvents(tx, tenantId, complete));
}

/** `n` events about the subjects `<prefix>-0`, `<prefix>-1`, …. */
export function numbered(prefix: string, n: number): Partial<DomainEvent>[] {
  return Array.from({ length: n }, (_, i) => ({ subjectId: `${prefix}-${i}` }));
}

export async function createSeller(api: TestApi, tenantId: string, sellerId: string): Promise<string> {
  const { userId, token } = await createPerson(api, tenantId, "seller");
  await api.sql`update memberships set seller_id = ${sellerId} where tenant_id = ${tenantId} and user_id = ${userId}`;
  return token;
}
