import { createSemaphore } from "../../src/core/semaphore.ts";
import type { Deps } from "../../src/deps.ts";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { decodeOrderAnnouncement, type OrderAnnouncement } from "../../src/streams/messages.ts";
import { ORDER_COMMANDS } from "../../src/streams/topology.ts";

const BATCH_SIZE = 200;
/** A tenant whose rows are locked by somebody must not hold up all others; the pool has connections for so many. */
const TENANTS_AT_ONCE = 2;
const BLOCK_MS = 2_000;
const MIN_IDLE_MS = 10_000;
const RECLAIM_EVERY_MS = 3_000;

/**
 * Announcement -> the groups' waiting commands, a tenant a transaction -> XACK. A message names a group and no command: what
 * is to be done, and in which order, Postgres says. A redelivered one finds nothing that waits.
 */
export function createOrderConsumer(
  { redisFactory, orderHandling, log }: Deps,
  name: string,
): StreamConsumer {
  const lanes = createSemaphore(TENANTS_AT_ONCE, BATCH_SIZE);

  async function handle(messages: StreamMessage[]): Promise<void> {
    const groups: OrderAnnouncement[] = [];
    for (const message of messages) {
      const group = decodeOrderAnnouncement(message.fields);
      if (group) groups.push(group);
      else log.error({ id: message.id }, "message on the stream is no order announcement, dropped");
    }
    const byTenant = [...Map.groupBy(groups, (group) => group.tenantId)];
    const handled = byTenant.map(([tenantId, ones]) =>
      lanes.run(() =>
        orderHandling.handle(
          tenantId,
          ones.map(({ groupId }) => groupId),
          name,
        ),
      ),
    );
    await Promise.all(handled);
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
