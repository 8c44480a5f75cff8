import type { Redis } from "ioredis";
import { LRUCache } from "lru-cache";
import { keys } from "../redis/keys.ts";
import type { RedisGuard } from "../resilience/redis-guard.ts";
import { createEntryWriter, type EntryLife } from "./budget.ts";
import { type Entry, encodeEntry, parseEntry } from "./entry.ts";
import { clearingTag, readOrMakeGenerations } from "./tags.ts";

/**
 * The entries in Redis, and those that the process holds itself. A held entry saves the transfer,
 * never the check: every read asks Redis for the current generations and for the header of the
 * entry. What Redis no longer has, or has replaced, is not served from here.
 */
export interface Found {
  /** Fresh or not; one from before the cache was cleared is none. */
  entry: Entry | null;
  /** That stand now. */
  generations: string[];
  /** None of the entry's tags was deleted since. */
  isCurrent: boolean;
}

export interface EntryQuestion {
  tenantId: string;
  scope: string;
  name: string;
  tags: readonly string[];
}

export type Entries = ReturnType<typeof createEntries>;

/** A larger entry would push out too many others. */
const LARGEST_SHARE = 1 / 8;
/** Of an entry, beside its text: header, parsed header, bookkeeping. */
const OVERHEAD_BYTES = 2_048;

export interface EntryBounds {
  /** Of what the process holds itself. */
  heldBytes: number;
  /** Of one entry; a larger one is computed each time. */
  entryBytes: number;
  /** Of one tenant's entries in Redis, of all scopes together. */
  tenantBytes: number;
}

/**
 * How a tenant's bytes are divided. Orders and products, which customers can fill, take no room
 * from analytics, which cost most to compute.
 */
const SHARES: Record<string, number> = { analytics: 1 / 2, products: 1 / 4, orders: 1 / 4 };

export function createEntries(redis: Redis, guard: RedisGuard, bounds: EntryBounds) {
  const { heldBytes, entryBytes, tenantBytes } = bounds;
  const writer = createEntryWriter(redis, (scope) => tenantBytes * (SHARES[scope] ?? 0));
  const held = new LRUCache<string, Entry>({
    maxSize: heldBytes,
    maxEntrySize: heldBytes * LARGEST_SHARE,
    sizeCalculation: sizeOf,
  });
  const unsent = new Map<string, Promise<Found>>();

  /** The entry as Redis has it now; only its header where the process holds the rest. */
  async function readBoth(entryKey: string, tagKeys: string[]) {
    const known = held.get(entryKey);
    const [found = null, ...current] = known
      ? (
          await Promise.all([redis.getrange(entryKey, 0, known.header.length - 1), redis.mget(tagKeys)])
        ).flat()
      : await redis.mget(entryKey, ...tagKeys);
    const newer = held.get(entryKey);
    // Made by this process while Redis was asked.
    if (newer && newer !== known) return { entry: newer, current };
    if (known && found === known.header) return { entry: known, current };
    // If read after the generations, it was computed under them, or is not current.
    return { entry: take(entryKey, known ? await redis.get(entryKey) : found), current };
  }

  function take(entryKey: string, stored: string | null): Entry | null {
    const entry = stored === null ? null : parseEntry(stored);
    if (entry) held.set(entryKey, entry);
    else held.delete(entryKey);
    return entry;
  }

  async function read(question: EntryQuestion): Promise<Found> {
    const { tenantId, scope, tags } = question;
    const clearing = [clearingTag("everything"), clearingTag(scope)];
    const allTags = [...clearing, ...tags];
    const tagKeys = allTags.map((tag) => keys.cacheTag(tenantId, tag));
    const { entry, current } = await readBoth(entryKeyOf(question), tagKeys);
    const generations = current.some((generation) => generation === null)
      ? await readOrMakeGenerations(redis, tenantId, allTags)
      : (current as string[]);
    const cleared = clearing.some((_, index) => entry?.generations[index] !== generations[index]);
    const isCurrent = entry?.generations.join() === generations.join();
    return { entry: cleared ? null : entry, generations, isCurrent };
  }

  return {
    /**
     * Rejects while Redis is away. All reads of the same entry in one turn of the event loop share
     * one request, sent after the last of them.
     */
    look(question: EntryQuestion): Promise<Found> {
      const name = `${entryKeyOf(question)} ${question.tags.join()}`;
      const waiting = unsent.get(name);
      if (waiting) return waiting;
      const { promise, resolve } = Promise.withResolvers<Found>();
      unsent.set(name, promise);
      setImmediate(() => {
        unsent.delete(name);
        resolve(guard.run(() => read(question)));
      });
      return promise;
    },

    /** False when it is too large, or its tenant has no room left. Rejects while Redis is away. */
    async store(question: EntryQuestion, entry: Entry, life: EntryLife): Promise<boolean> {
      const entryKey = entryKeyOf(question);
      const text = encodeEntry(entry);
      if (Buffer.byteLength(text) > entryBytes) return false;
      held.set(entryKey, entry);
      const stored = await writer.write({ ...question, entryKey }, text, life);
      if (!stored && held.peek(entryKey) === entry) held.delete(entryKey);
      return stored;
    },
  };
}

export function entryKeyOf({ tenantId, scope, name }: EntryQuestion): string {
  return keys.cacheEntry(tenantId, `${scope}:${name}`);
}

/** Its text, at most two bytes a character, and the bytes that were sent last. */
function sizeOf({ content: { text } }: Entry): number {
  return text.length * 2 + Buffer.byteLength(text) + OVERHEAD_BYTES;
}
