import { VERSION } from "../version.ts";

/**
 * Every key name. The part in braces is the hash tag of Redis Cluster: all keys of a tenant are in
 * one slot, as are a stream and what belongs to it. So commands on several keys work there, too.
 */
export const keys = {
  /** With the version, so that an answer of an older program's shape is never served. */
  cacheEntry: (tenantId: string, name: string) => `{${tenantId}}:cache:${VERSION}:${name}`,
  cacheLock: (tenantId: string, name: string) => `{${tenantId}}:computing:${VERSION}:${name}`,
  cacheCounts: (tenantId: string) => `{${tenantId}}:cache-counts`,
  /** How many bytes the entries of a scope take, see cache/budget.ts. */
  cacheBytes: (tenantId: string, scope: string) => `{${tenantId}}:cache-bytes:${scope}`,
  cacheTag: (tenantId: string, tag: string) => `{${tenantId}}:tag:${tag}`,
  /** `key` begins with the hash tag of its tenant or address, see http/middleware/rate-limit.ts. */
  rateLimit: (key: string) => `${key}:rate`,
  /** A tenant's latest notifications, and the channel on which the API hears of them. */
  notifications: (tenantId: string) => `{${tenantId}}:notifications`,
  notificationNudge: (tenantId: string) => `{${tenantId}}:notifications:nudge`,
  stream: (name: string) => `{footfall:${name}}:stream`,
};
