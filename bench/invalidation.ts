import { createCache } from "../src/cache/cache.ts";
import { deleteTags } from "../src/cache/tags.ts";
import { waitUntilReady } from "../src/redis/client.ts";
import { keys } from "../src/redis/keys.ts";
import { createRedisGuard } from "../src/resilience/redis-guard.ts";
import type { Stage } from "./stage.ts";

const SIZES = [1_000, 1_000_000];
const PIPELINE = 10_000;
const ROUNDS = 200;
const TAG = "bench";

/**
 * Invalidating all entries of a tag, by their number. Deleting the tag (ours) is compared with the
 * two usual ways: reading the members of a set of keys and unlinking them, and searching all keys
 * for a pattern.
 */
export async function measureInvalidation({
  deps,
  tenantId,
}: Stage): Promise<Record<string, number | string>> {
  const { redis, metrics } = deps;
  // The usual ways take longer than a command of the product may.
  const patient = deps.redisFactory.blocking("bench", 600_000);
  await waitUntilReady(patient, 5_000);
  const cache = createCache(redis, createRedisGuard(), metrics);
  const question = { tenantId, scope: "analytics", name: "one", tags: [TAG], ttlSeconds: 3_600 } as const;
  const figures: Record<string, number | string> = {};
  for (const size of SIZES) {
    await cache.getOrCompute(question, async () => "value");
    await fill(size);
    const tagMs = await median(ROUNDS, async () => {
      await cache.getOrCompute(question, async () => "value");
      return timed(() => deleteTags(redis, tenantId, [TAG]));
    });
    const after = await cache.getOrCompute(question, async () => "value");
    if (after.outcome !== "miss") throw new Error("the tag was deleted and the entry is still a hit");
    figures[`tag ${size}, ms`] = tagMs;
    const scanMs = await timed(scanAway);
    figures[`KEYS ${size}, ms`] = scanMs;
    figures[`KEYS / tag ${size}`] = scanMs / tagMs;
    await fill(size);
    const membersMs = await timed(unlinkMembers);
    figures[`set ${size}, ms`] = membersMs;
    figures[`set / tag ${size}`] = membersMs / tagMs;
  }
  patient.disconnect();
  return figures;

  /** Entries as the cache writes them, each also a member of a set. */
  async function fill(size: number): Promise<void> {
    const entry = JSON.stringify({ generations: ["a", "b", "c"], value: 1, madeAtMs: 1, freshUntilMs: 1 });
    for (let start = 0; start < size; start += PIPELINE) {
      const pipeline = patient.pipeline();
      const names = Array.from({ length: Math.min(PIPELINE, size - start) }, (_, index) =>
        keys.cacheEntry(tenantId, `analytics:filler:${start + index}`),
      );
      for (const name of names) pipeline.set(name, entry);
      pipeline.sadd(membersKey(), ...names);
      await pipeline.exec();
    }
  }

  async function unlinkMembers(): Promise<void> {
    let cursor = "0";
    do {
      const [next, members] = await patient.sscan(membersKey(), cursor, "COUNT", 1_000);
      if (members.length > 0) await patient.unlink(...members);
      cursor = next;
    } while (cursor !== "0");
    await patient.unlink(membersKey());
  }

  async function scanAway(): Promise<void> {
    const found = await patient.keys(
      `${keys.cacheEntry(tenantId, "analytics:filler:")}*`.replaceAll(/[[\]]/g, "\\$&"),
    );
    for (let start = 0; start < found.length; start += 1_000)
      await patient.unlink(...found.slice(start, start + 1_000));
  }

  function membersKey(): string {
    return `{${tenantId}}:members`;
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

async function median(rounds: number, measure: () => Promise<number>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) times.push(await measure());
  return times.sort((a, b) => a - b)[Math.floor(rounds / 2)] ?? Number.NaN;
}
