import type { Deps } from "../../src/deps.ts";
import type { DomainHandler } from "../../src/features/outbox/index.ts";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { decodeDomainAnnouncement } from "../../src/streams/messages.ts";
import { domainGroup } from "../../src/streams/topology.ts";

/** Messages, each of which names a tenant. The events of a tenant are read together. */
const BATCH_SIZE = 500;
const BLOCK_MS = 2_000;
/**
 * Longer than a statement usually takes. Reclaiming one that still runs only makes the second one
 * wait.
 */
const MIN_IDLE_MS = 10_000;
const RECLAIM_EVERY_MS = 3_000;

/**
 * Announcement -> what waits in the outbox for the consumer, in order, each claimed in the
 * statement of its effect -> XACK. A tenant with more than one turn allows is announced again. A
 * worker that dies after a commit has pushed nothing: the API's feeds notice by the tenant's
 * position.
 */
function createDomainConsumer(
  { redisFactory, outbox, log }: Deps,
  name: string,
  handler: DomainHandler,
): StreamConsumer {
  async function handle(messages: StreamMessage[]): Promise<void> {
    const tenantIds = new Set<string>();
    for (const message of messages) {
      const tenantId = decodeDomainAnnouncement(message.fields);
      if (tenantId) tenantIds.add(tenantId);
      else log.error({ id: message.id }, "message on the stream is no announcement, dropped");
    }
    const { left } = await outbox.handleWaiting([...tenantIds], handler);
    await outbox.announce(left);
  }

  return createConsumer(
    redisFactory.blocking(handler.consumer, BLOCK_MS),
    {
      topology: domainGroup(handler.consumer),
      name,
      batchSize: BATCH_SIZE,
      blockMs: BLOCK_MS,
      minIdleMs: MIN_IDLE_MS,
      reclaimEveryMs: RECLAIM_EVERY_MS,
      handle,
    },
    log,
  );
}

/** Domain event -> notification. */
export const createNotificationConsumer = (deps: Deps, name: string): StreamConsumer =>
  createDomainConsumer(deps, name, deps.notifications.domainHandler);

/** Domain event -> one delivery for every endpoint that wants it. The deliverer sends it. */
export const createWebhookConsumer = (deps: Deps, name: string): StreamConsumer =>
  createDomainConsumer(deps, name, deps.webhookDeliveries.domainHandler);
