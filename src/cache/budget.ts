import type { Redis } from "ioredis";
import { keys } from "../redis/keys.ts";

/**
 * Stores entries as long as those of one tenant and scope stay below a number of bytes. A hash
 * beside them counts bytes by the ten seconds in which they expire, so nobody has to read the
 * entries. An entry's expiry is rounded up to the end of such a slot. One script checks, writes and
 * counts. What Redis evicts stays counted until it would have expired. See docs/limits.md.
 */
export interface EntryWriter {
  /** False, and nothing is stored, where there is no room left. Rejects while Redis is away. */
  write(place: EntryPlace, text: string, life: EntryLife): Promise<boolean>;
}

export interface EntryPlace {
  tenantId: string;
  scope: string;
  entryKey: string;
}

export interface EntryLife {
  /** For how long it can be a hit. */
  freshSeconds: number;
  /**
   * How long it is kept while at most half of the room is taken. Beyond that it is kept only while
   * it is fresh.
   */
  keepSeconds: number;
}

const SLOT_SECONDS = 10;
/** No entry is kept for longer. */
const LONGEST_SECONDS = 2 * 3_600;
/** What Redis needs for an entry beside its text and its key, to hold and to expire it. */
const OVERHEAD_BYTES = 200;

/**
 * A Redis clock that went back, or far ahead, leaves counts that no slot takes off. The script then
 * starts the count anew.
 */
const SCRIPT = `
local text, fresh, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local room, width, longest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local slot = math.floor(now / width)
local known = redis.call('HMGET', KEYS[2], 'used', 'swept')
local used, swept = tonumber(known[1]) or 0, tonumber(known[2]) or slot
if slot < swept or slot > swept + longest / width then
  redis.call('DEL', KEYS[2])
  used, swept = 0, slot
end
for past = swept + 1, slot do
  local gone = redis.call('HGET', KEYS[2], past)
  if gone then
    used = used - gone
    redis.call('HDEL', KEYS[2], past)
  end
end
local extra = #KEYS[1] + ${OVERHEAD_BYTES}
local former, formerSlot = redis.call('STRLEN', KEYS[1]), 0
if former > 0 then
  formerSlot = math.floor((now + redis.call('TTL', KEYS[1])) / width + 0.5)
  former = math.min(former + extra, tonumber(redis.call('HGET', KEYS[2], formerSlot)) or 0)
end
local wanted = used - former + #text + extra
local stored = wanted <= room and 1 or 0
if stored == 1 then
  local ends = math.ceil((now + (wanted * 2 > room and fresh or keep)) / width)
  if former > 0 then redis.call('HINCRBY', KEYS[2], formerSlot, -former) end
  redis.call('SET', KEYS[1], text, 'EXAT', ends * width)
  redis.call('HINCRBY', KEYS[2], ends, #text + extra)
  used = wanted
end
redis.call('HSET', KEYS[2], 'used', used, 'swept', slot)
redis.call('EXPIRE', KEYS[2], longest + 2 * width)
return stored
`;

/** `roomOf`: bytes that the entries of a scope may take in each tenant. */
export function createEntryWriter(
  redis: Redis,
  roomOf: (scope: string) => number,
  slotSeconds = SLOT_SECONDS,
): EntryWriter {
  redis.defineCommand("footfallStoreEntry", { numberOfKeys: 2, lua: SCRIPT });
  const client = redis as Redis & {
    footfallStoreEntry(...args: (string | number)[]): Promise<number>;
  };
  return {
    async write({ tenantId, scope, entryKey }, text, { freshSeconds, keepSeconds }) {
      const stored = await client.footfallStoreEntry(
        entryKey,
        keys.cacheBytes(tenantId, scope),
        text,
        freshSeconds,
        Math.min(keepSeconds, LONGEST_SECONDS),
        roomOf(scope),
        slotSeconds,
        LONGEST_SECONDS,
      );
      return stored === 1;
    },
  };
}
