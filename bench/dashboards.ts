import type { Stage } from "./stage.ts";
import { sampleEvents } from "./stage.ts";

const DASHBOARDS = 10;
const POLL_MS = 5_000;
const SECONDS = 60;
const EVENTS_PER_SECOND = 200;

/** What a dashboard asks for with every poll. */
const QUESTIONS = [
  "/analytics/summary?days=1&groupBy=hour",
  "/analytics/summary?days=7",
  "/analytics/summary?days=30",
  "/analytics/products/top?days=1&sortBy=views",
  "/analytics/products/top?days=7&sortBy=revenue",
  "/analytics/products/top?days=30&sortBy=revenue",
  "/analytics/breakdown?property=device&days=7",
  "/analytics/breakdown?property=country&days=7",
  "/analytics/breakdown?property=referrer&days=30",
  "/analytics/products/p1/timeseries?days=30",
];

/**
 * Ten dashboards poll the same ten questions every five seconds, each at its own moment, while
 * events outdate the current month many times a second. Counts what the cache serves: hits, and
 * stale answers.
 */
export async function measureDashboards(stage: Stage): Promise<Record<string, number | string>> {
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  const worker = await stage.start(["src/cli.ts", "worker"], "worker started");
  const headers = { authorization: `Bearer ${stage.apiKey}` };
  const until = performance.now() + SECONDS * 1_000;
  const outcomes: Record<string, number> = { hit: 0, miss: 0, stale: 0 };
  const agesMs: number[] = [];

  async function send(): Promise<void> {
    while (performance.now() < until) {
      const body = JSON.stringify({ events: sampleEvents(EVENTS_PER_SECOND / 10) });
      const sent = fetch(`${api.url}/events/bulk`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json" },
        body,
      });
      await Promise.all([sent, Bun.sleep(100)]);
    }
  }

  async function poll(): Promise<void> {
    await Bun.sleep(Math.random() * POLL_MS);
    while (performance.now() < until) {
      const next = Bun.sleep(POLL_MS);
      for (const question of QUESTIONS) {
        const { meta } = (await (await fetch(api.url + question, { headers })).json()) as {
          meta: { cache: string; asOf: string };
        };
        outcomes[meta.cache] = (outcomes[meta.cache] ?? 0) + 1;
        if (meta.cache === "stale") agesMs.push(Date.now() - Date.parse(meta.asOf));
      }
      await next;
    }
  }

  await Promise.all([send(), ...Array.from({ length: DASHBOARDS }, poll)]);
  await Promise.all([api.stop(), worker.stop()]);
  const { hit = 0, miss = 0, stale = 0 } = outcomes;
  agesMs.sort((a, b) => a - b);
  return {
    "served cached": (hit + stale) / (hit + stale + miss),
    hit,
    stale,
    miss,
    "stale age p50, ms": agesMs[Math.floor(agesMs.length / 2)] ?? 0,
    "stale age max, ms": agesMs.at(-1) ?? 0,
  };
}
