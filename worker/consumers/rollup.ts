import type { Deps } from "../../src/deps.ts";
import { createConsumer, type StreamConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { type BatchAnnouncement, decodeAnnouncement } from "../../src/streams/messages.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";

/**
 * Batches a statement at most: 200 batches of 1,000 events were rolled up 3.8 times as fast as 10.
 */
const BATCH_SIZE = 200;
const BLOCK_MS = 2_000;
/**
 * Longer than a statement usually takes. Reclaiming one that still runs only makes the second one
 * wait.
 */
const MIN_IDLE_MS = 10_000;
const RECLAIM_EVERY_MS = 3_000;

/**
 * Announcement -> rollup -> delete cache tags -> XACK. A crash between commit and acknowledgement
 * delivers the message again: it rolls up nothing and deletes the tags again.
 */
export function createRollupConsumer(
  { redisFactory, rollups, invalidator, metrics, log }: Deps,
  name: string,
): StreamConsumer {
  async function handle(messages: StreamMessage[]): Promise<void> {
    const batches: BatchAnnouncement[] = [];
    for (const message of messages) {
      const batch = decodeAnnouncement(message.fields);
      if (batch) batches.push(batch);
      else log.error({ id: message.id }, "message on the stream is no announcement, dropped");
    }
    const claimed = await rollups.rollUp(batches);
    metrics.batchesRolledUp.inc({ by: "stream" }, claimed);
    await invalidator.invalidate(batches);
  }

  return createConsumer(
    redisFactory.blocking("rollup", BLOCK_MS),
    {
      topology: EVENT_BATCHES,
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
