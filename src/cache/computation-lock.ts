import type { Redis } from "ioredis";
import { randomToken, sha256 } from "../core/ids.ts";
import { keys } from "../redis/keys.ts";
import type { RedisGuard } from "../resilience/redis-guard.ts";

/**
 * Of several processes that miss the same entry, one computes it. The lock only saves work: it
 * expires by itself, and a process that can't ask for it computes.
 */
export interface ComputationLock {
  key: string;
  token: string;
}

const LOCK_MS = 5_000;
/** Only one's own lock: it may have run out and be another's by now. */
const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;

export function createComputationLocks(redis: Redis, guard: RedisGuard) {
  redis.defineCommand("footfallReleaseLock", { numberOfKeys: 1, lua: RELEASE });
  const client = redis as Redis & { footfallReleaseLock(key: string, token: string): Promise<number> };
  return {
    /** Null when another process is computing this entry under the same generations. */
    async acquire(
      tenantId: string,
      name: string,
      generations: readonly string[],
    ): Promise<ComputationLock | null> {
      const under = sha256(generations.join()).slice(0, 12);
      const lock = { key: keys.cacheLock(tenantId, `${under}:${name}`), token: randomToken(9) };
      try {
        const held = await guard.run(() => redis.set(lock.key, lock.token, "PX", LOCK_MS, "NX"));
        return held === null ? null : lock;
      } catch {
        return lock;
      }
    },

    release({ key, token }: ComputationLock): void {
      client.footfallReleaseLock(key, token).catch(() => {});
    },
  };
}
