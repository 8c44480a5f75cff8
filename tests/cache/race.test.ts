/**
 * G9 under a race: writers, roll-ups and readers of two processes at once. No hit is older than the
 * last roll-up that had finished, with its tags deleted, before the question was asked.
 * RACE_SECONDS=60 makes it thorough.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { createTenant, createTestApi, createTestDeps, eventInput, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

const RACE_MS = Number(process.env.RACE_SECONDS ?? 4) * 1_000;
const WRITERS = 3;
const READERS_A_PROCESS = 3;

let api: TestApi;
let apps: TestApi["app"][];

beforeAll(async () => {
  api = await createTestApi();
  const deps = createTestDeps(api.config);
  await waitUntilReady(deps.redis, 5_000);
  apps = [api.app, createApp(deps, { ...api.config, version: "test" })];
});
afterAll(cleanup);

interface Race {
  reads: Record<string, number>;
  /** Hits that showed less than was already counted and announced when they were requested. */
  outdatedHits: number;
  /** The same for stale answers: they may. */
  outdatedStale: number;
}

/** `deletesTags` false switches the guard off: the control. */
async function race(deletesTags: boolean): Promise<Race> {
  const tenant = await createTenant(api);
  const headers = { authorization: `Bearer ${tenant.key}` };
  const until = Date.now() + RACE_MS;
  const result: Race = { reads: { hit: 0, miss: 0, stale: 0 }, outdatedHits: 0, outdatedStale: 0 };
  let counted = 0;

  async function write(): Promise<void> {
    while (Date.now() < until) await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
  }

  async function rollUp(): Promise<void> {
    while (Date.now() < until) {
      const waiting = await api.deps.rollups.findOverdue(-1_000, 50);
      await api.deps.rollups.rollUp(waiting);
      if (deletesTags) await api.deps.invalidator.invalidate(waiting);
      const [row] = await api.sql<{ views: number }[]>`
        select coalesce(sum(views), 0)::int as views from product_daily_stats where tenant_id = ${tenant.tenantId}`;
      counted = row?.views ?? 0;
    }
  }

  async function read(app: TestApi["app"]): Promise<void> {
    while (Date.now() < until) {
      const atLeast = counted;
      const response = await app.request("/analytics/summary?days=2", { headers });
      const { totals, meta } = (await response.json()) as {
        totals: { views: number };
        meta: { cache: string; lagMs: number };
      };
      result.reads[meta.cache] = (result.reads[meta.cache] ?? 0) + 1;
      if (totals.views >= atLeast) continue;
      if (meta.cache === "stale") result.outdatedStale += 1;
      else result.outdatedHits += 1;
    }
  }

  await Promise.all([
    ...Array.from({ length: WRITERS }, write),
    rollUp(),
    ...Array.from({ length: READERS_A_PROCESS }, () => apps.map(read)).flat(),
  ]);
  return result;
}

test(
  "no hit is older than a roll-up that was finished before it was asked for",
  async () => {
    const { reads, outdatedHits, outdatedStale } = await race(true);
    console.log(
      `race: ${JSON.stringify(reads)}, ${outdatedStale} stale answers behind, ${outdatedHits} hits`,
    );
    expect(outdatedHits).toBe(0);
    for (const outcome of ["hit", "stale"]) expect(reads[outcome]).toBeGreaterThan(0);
  },
  RACE_MS + 30_000,
);

test(
  "control: without the deletion of tags there are such hits",
  async () => {
    const { outdatedHits } = await race(false);
    expect(outdatedHits).toBeGreaterThan(0);
  },
  RACE_MS + 30_000,
);
