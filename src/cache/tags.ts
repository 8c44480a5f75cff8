import type { Redis } from "ioredis";
import { type Day, monthsBetween, toDay } from "../core/days.ts";
import { randomToken, sha256 } from "../core/ids.ts";
import { keys } from "../redis/keys.ts";

/** A tag that expires before an entry only costs a recomputation. */
const TAG_TTL_SECONDS = 2 * 3_600;
/** What is owed after an outage of Redis may be any number of tags. */
const TAGS_A_COMMAND = 1_000;

/**
 * Makes a generation for each of a tenant's tags that has none, and returns the current
 * generations.
 */
export async function readOrMakeGenerations(
  redis: Redis,
  tenantId: string,
  tags: readonly string[],
): Promise<string[]> {
  const pipeline = redis.pipeline();
  const tagKeys = tags.map((tag) => keys.cacheTag(tenantId, tag));
  for (const key of tagKeys) pipeline.set(key, randomToken(9), "EX", TAG_TTL_SECONDS, "NX");
  pipeline.mget(...tagKeys);
  const replies = await pipeline.exec();
  const [error, generations] = replies?.at(-1) ?? [new Error("empty pipeline reply"), null];
  if (error) throw error;
  // A tag deleted between the two commands is null here. An empty generation matches none that is
  // read later.
  return (generations as (string | null)[]).map((generation) => generation ?? randomToken(9));
}

/**
 * Tags of the whole cache of a tenant, or of one scope of it. What they outdate is gone, not stale.
 */
export function clearingTag(scope: string): string {
  return `all:${scope}`;
}

/**
 * Invalidates everything that was computed under the tags: one deletion a tag, however many entries
 * there are.
 */
export async function deleteTags(redis: Redis, tenantId: string, tags: readonly string[]): Promise<void> {
  for (let from = 0; from < tags.length; from += TAGS_A_COMMAND) {
    const some = tags.slice(from, from + TAGS_A_COMMAND);
    await redis.unlink(...some.map((tag) => keys.cacheTag(tenantId, tag)));
  }
}

/**
 * The widest offset of a time zone from UTC: a UTC instant's local day is at most this far away.
 */
const WIDEST_OFFSET_MS = 14 * 3_600_000;

/**
 * The tags of all analytics over events between two instants, whatever the tenant's time zone: one
 * a month.
 */
export function analyticsTagsOfInstants(minMs: number, maxMs: number): string[] {
  return analyticsTagsOfDays(toDay(minMs - WIDEST_OFFSET_MS), toDay(maxMs + WIDEST_OFFSET_MS));
}

/**
 * Months outside of these share one tag, so that asking for thousands of years can't fill Redis
 * with tags.
 */
const OWN_TAGS = { from: "1990-01-01", to: "2099-12-31" };
const FAR_TAG = "analytics:far";

/** The tags that an answer over a range of local days is computed under. */
export function analyticsTagsOfDays(from: Day, to: Day): string[] {
  const first = from < OWN_TAGS.from ? OWN_TAGS.from : from;
  const last = to > OWN_TAGS.to ? OWN_TAGS.to : to;
  const tags = monthsBetween(first, last).map((month) => `analytics:${month.slice(0, 7)}`);
  return first === from && last === to ? tags : [...tags, FAR_TAG];
}

/**
 * The tag of everything read from one product, deleted on every change of it. It is one of 4096 a
 * tenant, so that requests for unknown ids can't fill Redis with tags. Products that share one cost
 * a computation now and then.
 */
export function productTag(productId: string): string {
  return `product:${sha256(productId).slice(0, 3)}`;
}

/** The tag of every list of products, deleted on every change of any product of the tenant. */
export const PRODUCTS_TAG = "products";

export function orderTag(orderId: string): string {
  return `order:${sha256(orderId).slice(0, 3)}`;
}

export const ORDERS_TAG = "orders";
