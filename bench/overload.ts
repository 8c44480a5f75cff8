import { addDays } from "../src/core/days.ts";
import { PRIORITIES } from "../src/core/priority.ts";
import { FIRST_DAY, fillYear } from "./analytics.ts";
import type { Stage } from "./stage.ts";

const EVENTS = 500_000;
/** Top products over half a year: some forty milliseconds of Postgres. */
const DAYS = 180;
const PEAK_CONNECTIONS = 16;
const PEAK_SECONDS = 10;
const OVERLOAD_SECONDS = 60;
const OVERLOAD_FACTOR = 10;
/** In flight at most on the side of the generator. Requests beyond that are counted as not sent. */
const MAX_IN_FLIGHT = 4_000;
const RECOVERY_MS = 10_000;

interface Tally {
  ok: Record<string, number>;
  refused: Record<string, number>;
  other: number;
  okLatenciesMs: number[];
}

/**
 * Questions that no cache can answer (each has another range or limit), at ten times the rate that
 * the process can serve, a quarter of each priority. Open loop: questions come whether answered or
 * not. Generator, API and Postgres share the cores, so the generator's cost is part of the
 * overload.
 */
export async function measureOverload(stage: Stage): Promise<Record<string, number | string>> {
  await fillYear(stage, EVENTS);
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  const headers = { authorization: `Bearer ${stage.apiKey}` };
  let asked = 0;
  const ask = async (tally: Tally, priority: string): Promise<void> => {
    asked += 1;
    const startedAt = performance.now();
    const response = await fetch(api.url + newQuestion(asked), {
      headers: { ...headers, "x-priority": priority },
    });
    await response.arrayBuffer();
    if (response.status === 200) {
      tally.ok[priority] = (tally.ok[priority] ?? 0) + 1;
      tally.okLatenciesMs.push(performance.now() - startedAt);
    } else if (response.status === 503) tally.refused[priority] = (tally.refused[priority] ?? 0) + 1;
    else tally.other += 1;
  };

  const peakTally = emptyTally();
  const peakUntil = performance.now() + PEAK_SECONDS * 1_000;
  await Promise.all(
    Array.from({ length: PEAK_CONNECTIONS }, async () => {
      while (performance.now() < peakUntil) await ask(peakTally, "critical");
    }),
  );
  const peak = total(peakTally.ok) / PEAK_SECONDS;
  const rssBefore = await api.rssMb();

  const tally = emptyTally();
  const until = performance.now() + OVERLOAD_SECONDS * 1_000;
  let inFlight = 0;
  let notSent = 0;
  const rss: number[] = [];
  const tickMs = 10;
  while (performance.now() < until) {
    const next = Bun.sleep(tickMs);
    for (let count = 0; count < (peak * OVERLOAD_FACTOR * tickMs) / 1_000; count += 1) {
      if (inFlight >= MAX_IN_FLIGHT) {
        notSent += 1;
        continue;
      }
      inFlight += 1;
      const priority = PRIORITIES[asked % PRIORITIES.length] ?? "normal";
      void ask(tally, priority).finally(() => {
        inFlight -= 1;
      });
    }
    rss.push(await api.rssMb());
    await next;
  }
  while (inFlight > 0) await Bun.sleep(10);

  const recoveredMs = await untilNormal(api.url, headers);
  await api.stop();
  tally.okLatenciesMs.sort((a, b) => a - b);
  const share = (priority: string) => {
    const ok = tally.ok[priority] ?? 0;
    return ok / (ok + (tally.refused[priority] ?? 0));
  };
  return {
    "peak, /s": peak,
    "goodput / peak": total(tally.ok) / OVERLOAD_SECONDS / peak,
    "offered / peak": (total(tally.ok) + total(tally.refused)) / OVERLOAD_SECONDS / peak,
    "not sent": notSent,
    ...Object.fromEntries(PRIORITIES.map((priority) => [`served ${priority}`, share(priority)])),
    "ok p99, ms": tally.okLatenciesMs[Math.floor(tally.okLatenciesMs.length * 0.99)] ?? Number.NaN,
    "other answers": tally.other,
    "normal after, ms": recoveredMs,
    "RSS before, MB": rssBefore,
    "RSS after a third, MB": rss[Math.floor(rss.length / 3)] ?? Number.NaN,
    "RSS after two thirds, MB": rss[Math.floor((rss.length * 2) / 3)] ?? Number.NaN,
    "RSS at the end, MB": rss.at(-1) ?? Number.NaN,
  };
}

/** 185 ranges, 50 limits, and 7 measures: none comes twice. */
function newQuestion(n: number): string {
  const startDate = addDays(FIRST_DAY, n % 185);
  const limit = 1 + (Math.floor(n / 185) % 50);
  const sortBy = MEASURES[Math.floor(n / 9_250) % MEASURES.length];
  return `/analytics/products/top?startDate=${startDate}&endDate=${addDays(startDate, DAYS)}&limit=${limit}&sortBy=${sortBy}`;
}

const MEASURES = ["views", "clicks", "addToCarts", "checkoutStarts", "purchases", "units", "revenue"];

async function untilNormal(url: string, headers: Record<string, string>): Promise<number> {
  const endedAt = performance.now();
  for (; performance.now() - endedAt < RECOVERY_MS * 3; await Bun.sleep(100)) {
    const { load } = (await (await fetch(`${url}/analytics/health`, { headers })).json()) as {
      load?: { level: string };
    };
    if (load?.level === "normal") break;
  }
  return performance.now() - endedAt;
}

function emptyTally(): Tally {
  return { ok: {}, refused: {}, other: 0, okLatenciesMs: [] };
}

function total(counts: Record<string, number>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
