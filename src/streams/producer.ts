import type { Redis } from "ioredis";
import type { Metrics } from "../telemetry/metrics.ts";
import { type BatchAnnouncement, encodeAnnouncement } from "./messages.ts";
import { EVENT_BATCHES } from "./topology.ts";

export interface Announcer {
  /** Tells the workers about committed batches. Never throws: the sweeper finds what was not announced. */
  announce(batches: readonly BatchAnnouncement[]): Promise<void>;
}

export function createAnnouncer(redis: Redis, metrics: Metrics): Announcer {
  const { key, maxLength } = EVENT_BATCHES;
  return {
    async announce(batches) {
      try {
        const pipeline = redis.pipeline();
        for (const batch of batches)
          pipeline.xadd(key, "MAXLEN", "~", maxLength, "*", ...encodeAnnouncement(batch));
        const replies = await pipeline.exec();
        const failed = replies?.filter(([error]) => error !== null).length ?? batches.length;
        if (failed > 0) metrics.announcementsFailed.inc(failed);
      } catch {
        metrics.announcementsFailed.inc(batches.length);
      }
    },
  };
}
