import { rebuildTenant } from "../src/features/rollups/index.ts";
import { expectOnly, runLoad } from "./load.ts";
import type { Child, Stage } from "./stage.ts";

/**
 * A year of a shop: ANALYTICS_EVENTS events (10 million) and 5,000 products, made in SQL from one
 * seed and rolled up by `rebuild`. Measures p95 of answers that are computed every time
 * (skipCache), one after the other; then the rate of cached answers against GET /health, both at 64
 * connections.
 */
export async function measureAnalytics(stage: Stage) {
  const startedAt = performance.now();
  await fillYear(stage, EVENTS);
  const figures: Record<string, number> = {
    events: EVENTS,
    fillSeconds: (performance.now() - startedAt) / 1000,
    audienceRows: await countRows(stage, "user_daily_stats"),
    productRows: await countRows(stage, "product_daily_stats"),
  };
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  for (const [name, path] of Object.entries(QUESTIONS)) {
    const { p50, p95 } = await timeUncached(stage, api, path);
    figures[`${name} p50 ms`] = p50;
    figures[`${name} p95 ms`] = p95;
  }
  Object.assign(figures, await rateCached(stage, api));
  await api.stop();
  return figures;
}

const EVENTS = Number(process.env.ANALYTICS_EVENTS ?? 10_000_000);
const PRODUCTS = 5_000;
const KNOWN_USERS = 100_000;
const EVENTS_A_SESSION = 6;
export const FIRST_DAY = "2025-01-01";
const LAST_DAY = "2025-12-31";
const ASKED = Number(process.env.ANALYTICS_ROUNDS ?? 60);
const SECONDS = 3;
const ROUNDS = 3;
const HOT = ["top", "summary, day, year", "timeseries, year", "stats"];

const YEAR = `startDate=${FIRST_DAY}&endDate=${LAST_DAY}`;
const MONTH = "startDate=2025-06-10&endDate=2025-07-09";
/**
 * Thirty days, and nearly a year, that are put together from the most periods (analytics/cover.ts):
 * 10 and 19.
 */
const WORST_MONTH = "startDate=2025-04-14&endDate=2025-05-13";
const WORST_YEAR = "startDate=2025-01-13&endDate=2025-12-28";
const QUESTIONS: Record<string, string> = {
  top: `/analytics/products/top?${MONTH}&sortBy=revenue`,
  "top, worst": `/analytics/products/top?${WORST_MONTH}&sortBy=revenue`,
  "top, worst year": `/analytics/products/top?${WORST_YEAR}&sortBy=revenue`,
  "top, year": `/analytics/products/top?${YEAR}&sortBy=revenue`,
  "summary, day, year": `/analytics/summary?${YEAR}&groupBy=day`,
  "series, day, year": `/analytics/summary/paginated?${YEAR}&groupBy=day&limit=100`,
  "timeseries, year": `/analytics/products/p7/timeseries?${YEAR}`,
  stats: `/analytics/products/stats?${MONTH}&sortBy=revenue`,
  "stats, worst": `/analytics/products/stats?${WORST_MONTH}&sortBy=revenue`,
  "stats, year": `/analytics/products/stats?${YEAR}&sortBy=revenue`,
  "breakdown, year": `/analytics/breakdown?${YEAR}&property=country`,
  funnel: `/analytics/funnel?startDate=2025-06-10&endDate=2025-06-16&windowHours=24`,
  "retention, week": `/analytics/retention?startDate=2025-04-14&endDate=2025-07-06&period=week`,
};

/**
 * Hashes of the row's number replace chance: the same year every time, whatever Postgres runs in
 * parallel.
 */
export async function fillYear({ deps, tenantId }: Stage, events: number): Promise<void> {
  const { transactions } = deps.db;
  await deps.db.write`
    insert into products (tenant_id, id, sku, name, price, status, created_at, updated_at)
    select ${tenantId}, 'p' || n, 'sku-' || n, 'Product ' || n, 1 + n % 90, 'active', now(), now()
    from generate_series(1, ${PRODUCTS}::int) n on conflict do nothing`;
  for (let month = 1; month <= 12; month += 1) {
    const day = `2025-${String(month).padStart(2, "0")}-01`;
    await transactions.unsafe(
      `create table if not exists events_2025_${day.slice(5, 7)} partition of events
       for values from ('${day}T00:00:00Z') to ('${day}T00:00:00Z'::timestamptz + interval '1 month')`,
    );
  }
  const stepMs = (365 * 86_400_000) / events;
  for (let from = 0; from < events; from += FILL_AT_ONCE)
    await transactions`
      insert into events (tenant_id, ts, id, batch_id, received_at, type, product_id, user_id, anonymous_id, session_id,
        quantity, unit_price, properties)
      select ${tenantId}, ts, gen_random_uuid(), ${tenantId}, ts,
        (array['view','view','view','view','view','view','click','click','add_to_cart','checkout_start','purchase','search'])[1 + a % 12],
        'p' || (1 + floor(${PRODUCTS}::float8 * power((b % 10000) / 10000.0, 2)))::int,
        case when c % 100 < 55 then 'user-' || floor(${KNOWN_USERS}::float8 * power((c / 100 % 10000) / 10000.0, 1.5) + c % 10)::int end,
        case when c % 100 >= 55 then 'anon-' || case when c % 4 = 0 then (session / 50) else session end end,
        's-' || session, case when a % 12 = 10 then 1 + b % 3 end, case when a % 12 = 10 then 1 + b % 90 end,
        jsonb_build_object('country', (array['DE','FR','GB','NL','AT'])[1 + c % 5], 'device', (array['mobile','desktop'])[1 + c % 2])
      from (
        select n, ${`${FIRST_DAY}T00:00:00Z`}::timestamptz + n * ${stepMs}::float8 * interval '1 millisecond' as ts, n / ${EVENTS_A_SESSION}::int as session,
          hashint8(n)::bigint & 2147483647 as a, hashint8(n + 50000000)::bigint & 2147483647 as b,
          hashint8(n / ${EVENTS_A_SESSION}::int + 100000000)::bigint & 2147483647 as c
        from generate_series(${from}::bigint, ${Math.min(from + FILL_AT_ONCE, events) - 1}::bigint) n
      ) chance`;
  await rebuildTenant(transactions, { tenantId, timeZone: "UTC" }, {});
  await deps.db.write.unsafe("vacuum analyze");
}

const FILL_AT_ONCE = 250_000;

async function countRows({ deps }: Stage, table: string): Promise<number> {
  const [row] = await deps.db.transactions<{ n: number }[]>`
    select count(*)::int as n from ${deps.db.transactions(table)}`;
  return row?.n ?? 0;
}

async function timeUncached({ apiKey }: Stage, api: Child, path: string) {
  const times: number[] = [];
  for (let round = 0; round < ASKED; round += 1) {
    const startedAt = performance.now();
    const answer = await fetch(`${api.url}${path}&skipCache=true`, { headers: { "x-api-key": apiKey } });
    await answer.arrayBuffer();
    if (answer.status !== 200) throw new Error(`${path} was answered ${answer.status}`);
    // The first ones make connections and plans.
    if (round >= 3) times.push(performance.now() - startedAt);
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p95: at(0.95) };
}

/** In turns, so that other load on the machine affects all of them; medians. */
async function rateCached(stage: Stage, api: Child) {
  const rates = new Map<string, number[]>([["health", []]]);
  for (const name of HOT) rates.set(name, []);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, seen] of rates)
      seen.push(await rateOf(stage, api, name === "health" ? "/health" : (QUESTIONS[name] ?? "")));
  }
  const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
  const health = rates.get("health") ?? [];
  const figures: Record<string, number> = { "health/s": median(health) };
  for (const name of HOT) {
    const cached = rates.get(name) ?? [];
    figures[`${name} cached/s`] = median(cached);
    figures[`${name} cached/health`] = median(cached.map((rate, round) => rate / (health[round] ?? 0)));
  }
  return figures;
}

async function rateOf({ apiKey }: Stage, api: Child, path: string): Promise<number> {
  const load = { url: `${api.url}${path}`, method: "GET" as const, headers: { "x-api-key": apiKey } };
  await runLoad({ ...load, connections: 64, seconds: 1 });
  const result = await runLoad({ ...load, connections: 64, seconds: SECONDS });
  expectOnly(200, result);
  return result.requestsPerSecond;
}
