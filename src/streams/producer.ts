import type { Redis } from "ioredis";
import type { Metrics } from "../telemetry/metrics.ts";
import {
  type BatchAnnouncement,
  encodeAnnouncement,
  encodeOrderAnnouncement,
  type OrderAnnouncement,
} from "./messages.ts";
import { EVENT_BATCHES, ORDER_COMMANDS } from "./topology.ts";

/**
 * Tells the workers what Postgres holds for them. Never throws: a sweeper finds what was not
 * announced.
 */
export interface Announcer {
  /** Committed batches of events. */
  announce(batches: readonly BatchAnnouncement[]): Promise<void>;
  /** Groups with commands that wait. */
  announceOrders(groups: readonly OrderAnnouncement[]): Promise<void>;
}

export function createAnnouncer(redis: Redis, metrics: Metrics): Announcer {
  async function send({ key, maxLength }: { key: string; maxLength: number }, messages: string[][]) {
    try {
      const pipeline = redis.pipeline();
      for (const fields of messages) pipeline.xadd(key, "MAXLEN", "~", maxLength, "*", ...fields);
      const replies = await pipeline.exec();
      const failed = replies?.filter(([error]) => error !== null).length ?? messages.length;
      if (failed > 0) metrics.announcementsFailed.inc(failed);
    } catch {
      metrics.announcementsFailed.inc(messages.length);
    }
  }

  return {
    announce: (batches) => send(EVENT_BATCHES, batches.map(encodeAnnouncement)),
    announceOrders: (groups) => send(ORDER_COMMANDS, groups.map(encodeOrderAnnouncement)),
  };
}
