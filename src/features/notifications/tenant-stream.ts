import type { Redis } from "ioredis";
import { keys } from "../../redis/keys.ts";
import type { PlacedNotification } from "./repository.ts";
import type { NotificationContent } from "./schema.ts";

/**
 * A tenant's latest notifications in Redis, under their positions as entry ids, and a nudge to the
 * API processes whose clients wait. Redis refuses an id that is not greater than the last, so
 * publishing again changes nothing. Entries may be missing, in the middle too (two workers, a wiped
 * Redis, large ones): readers see that by the positions and ask Postgres.
 */
export interface FeedItem {
  position: number;
  topic: string;
  sellerId: string | null;
  /** The notification as its clients get it, in JSON. */
  json: string;
}

/** What a client that was away for a short while has missed. */
export const MAX_LENGTH = 1_000;
const KEEP_MS = 3_600_000;
/** One answer of Redis, which takes its memory and other clients' time: 64 entries of 4 KB. */
const PAGE = 64;
const MAX_ENTRY_BYTES = 4_096;

export function feedItemOf(row: PlacedNotification): FeedItem {
  const { id, topic, subjectId, sellerId, data, position } = row;
  const content: NotificationContent = {
    id,
    topic,
    subjectId,
    sellerId,
    createdAt: row.createdAt.toISOString(),
    data,
  };
  return { position, topic, sellerId, json: JSON.stringify(content) };
}

/** One tenant's, in the order of their positions. Throws when Redis is away or full. */
export async function publishItems(
  redis: Redis,
  tenantId: string,
  items: readonly FeedItem[],
): Promise<void> {
  const key = keys.notifications(tenantId);
  const pipeline = redis.pipeline();
  for (const { position, topic, sellerId, json } of items) {
    if (Buffer.byteLength(json) > MAX_ENTRY_BYTES) continue;
    const fields = ["t", topic, "n", json, ...(sellerId === null ? [] : ["s", sellerId])];
    pipeline.xadd(key, "MAXLEN", "~", MAX_LENGTH, `${position}-0`, ...fields);
  }
  pipeline.pexpire(key, KEEP_MS);
  pipeline.publish(keys.notificationNudge(tenantId), String(items.at(-1)?.position));
  for (const [error] of (await pipeline.exec()) ?? [])
    if (error && !String(error).includes("equal or smaller")) throw error;
}

/** A page of entries after a position, as far as they follow each other without a hole. */
export async function readItems(redis: Redis, tenantId: string, position: number): Promise<FeedItem[]> {
  const entries = await redis.xrange(keys.notifications(tenantId), `(${position}-0`, "+", "COUNT", PAGE);
  const items = entries.map(([id, flat]): FeedItem => {
    const fields: Record<string, string> = {};
    for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i] as string] = flat[i + 1] as string;
    const { t = "", n = "", s = null } = fields;
    return { position: Number.parseInt(id, 10), topic: t, sellerId: s, json: n };
  });
  const hole = items.findIndex((item, n) => item.position !== position + 1 + n);
  return hole === -1 ? items : items.slice(0, hole);
}
