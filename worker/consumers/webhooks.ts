import type { Deps } from "../../src/deps.ts";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { type DomainAnnouncement, decodeDomainAnnouncement } from "../../src/streams/messages.ts";
import { domainGroup } from "../../src/streams/topology.ts";

const BATCH_SIZE = 200;
const BLOCK_MS = 2_000;
const MIN_IDLE_MS = 10_000;
const RECLAIM_EVERY_MS = 3_000;

/** Domain event -> one delivery for every endpoint that wants it. The sending is the deliverer's. */
export function createWebhookConsumer(
  { redisFactory, webhookDeliveries, log }: Deps,
  name: string,
): StreamConsumer {
  async function handle(messages: StreamMessage[]): Promise<void> {
    const events: DomainAnnouncement[] = [];
    for (const message of messages) {
      const event = decodeDomainAnnouncement(message.fields);
      if (event) events.push(event);
      else log.error({ id: message.id }, "message on the stream is no announcement, dropped");
    }
    await webhookDeliveries.enqueue(events);
  }

  return createConsumer(
    redisFactory.blocking("webhooks", BLOCK_MS),
    {
      topology: domainGroup("webhooks"),
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
