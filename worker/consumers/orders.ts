import type { Deps } from "../../src/deps.ts";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { decodeOrderAnnouncement, type OrderAnnouncement } from "../../src/streams/messages.ts";
import { ORDER_COMMANDS } from "../../src/streams/topology.ts";

const BATCH_SIZE = 200;
const BLOCK_MS = 2_000;
const MIN_IDLE_MS = 10_000;
const RECLAIM_EVERY_MS = 3_000;

/**
 * Announcement -> the groups' waiting commands, a transaction a tenant -> XACK. A message names a
 * group and no command: Postgres says what is to be done, and in which order. A message that comes
 * twice finds nothing that waits.
 */
export function createOrderConsumer(
  { redisFactory, orderHandling, log }: Deps,
  name: string,
): StreamConsumer {
  async function handle(messages: StreamMessage[]): Promise<void> {
    const groups: OrderAnnouncement[] = [];
    for (const message of messages) {
      const group = decodeOrderAnnouncement(message.fields);
      if (group) groups.push(group);
      else log.error({ id: message.id }, "message on the stream is no order announcement, dropped");
    }
    await orderHandling.handleGroups(groups, name);
  }

  return createConsumer(
    redisFactory.blocking("orders", BLOCK_MS),
    {
      topology: ORDER_COMMANDS,
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
