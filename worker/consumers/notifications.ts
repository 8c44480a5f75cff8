import type { Deps } from "../../src/deps.ts";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { type DomainAnnouncement, decodeDomainAnnouncement } from "../../src/streams/messages.ts";
import { domainGroup } from "../../src/streams/topology.ts";

const BATCH_SIZE = 500;
const BLOCK_MS = 2_000;
/** Longer than a statement usually takes; one that is reclaimed while it still runs only makes the second wait. */
const MIN_IDLE_MS = 10_000;
const RECLAIM_EVERY_MS = 3_000;

/**
 * Announcement -> claim and store in one statement -> push -> XACK. Who dies after the commit has pushed nothing: the
 * API's feeds notice by the tenant's position.
 */
export function createNotificationConsumer(
  { redisFactory, notifications, log }: Deps,
  name: string,
): StreamConsumer {
  async function handle(messages: StreamMessage[]): Promise<void> {
    const events: DomainAnnouncement[] = [];
    for (const message of messages) {
      const event = decodeDomainAnnouncement(message.fields);
      if (event) events.push(event);
      else log.error({ id: message.id }, "message on the stream is no announcement, dropped");
    }
    await notifications.publish(await notifications.store(events));
  }

  return createConsumer(
    redisFactory.blocking("notifications", BLOCK_MS),
    {
      topology: domainGroup("notifications"),
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
