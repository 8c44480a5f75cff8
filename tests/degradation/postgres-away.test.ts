/**
 * Postgres stopped: cached answers go on as `stale`, the rest is refused at once, and all of it
 * recovers by itself.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  callOver,
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, migrate, startPostgres, startServer, type TestPostgres } from "../harness.ts";

const WARM = [
  "/analytics/summary?days=7",
  "/analytics/products/top?days=7",
  "/analytics/breakdown?property=device",
  "/analytics/retention",
  "/analytics/realtime",
];
/** Until the breaker stands open: the reads that find out. */
const TRIES = 12;

let postgres: TestPostgres;
let api: TestApi;
let tenant: TestTenant;
let server: Awaited<ReturnType<typeof startServer>>;
let call: TestApi["call"];

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  api = await createTestApi({ DATABASE_URL: postgres.url });
  tenant = await createTenant(api);
  server = await startServer(api.env);
  call = callOver(server.url);
}, 60_000);
afterAll(cleanup);

const read = (path: string) => call("GET", path, { as: tenant.key });

test("warm ranges are answered stale, others 503 at once, and everything is back by itself", async () => {
  await call("POST", "/events", { as: tenant.key, json: eventInput() });
  await rollUpAll(api);
  for (const path of WARM) expect((await read(path)).body.meta.cache).toBe("miss");
  const { body: before } = await read(WARM[0] ?? "");
  expect(before.totals.views).toBe(1);

  await postgres.stop("immediate");
  // A cold question, until the breaker opens.
  for (let index = 0; index < TRIES; index += 1)
    expect((await read(`/analytics/summary?days=${20 + index}`)).status).toBe(503);

  // Nothing below may wait: the tags of the cached answers are deleted, as by a rollup that came in
  // between.
  const now = Date.now();
  await api.deps.invalidator.invalidate([{ tenantId: tenant.tenantId, minMs: now, maxMs: now }]);
  const slowest = { warm: 0, cold: 0 };
  for (let round = 0; round < 20; round += 1) {
    for (const path of WARM) {
      const startedAt = performance.now();
      const { status, body } = await read(path);
      slowest.warm = Math.max(slowest.warm, performance.now() - startedAt);
      expect([status, body.meta.cache]).toEqual([200, "stale"]);
      expect(body.meta.lagMs).toBeGreaterThan(0);
    }
    const startedAt = performance.now();
    const cold = await read(`/analytics/summary?days=${40 + round}`);
    slowest.cold = Math.max(slowest.cold, performance.now() - startedAt);
    expect(cold.status).toBe(503);
    expect(Number(cold.headers.get("retry-after"))).toBeGreaterThan(0);
  }
  const { body: stale } = await read(WARM[0] ?? "");
  expect(stale.totals).toEqual(before.totals);
  const { status, body: health } = await read("/analytics/health");
  expect([status, health.status]).toEqual([200, "degraded"]);
  expect(health.breakers.postgresReads).not.toBe("closed");
  console.log(`slowest: warm ${slowest.warm.toFixed(0)} ms, cold ${slowest.cold.toFixed(0)} ms`);

  await postgres.start();
  const backAt = Date.now();
  await eventually(
    async () => {
      const { status: cold } = await read("/analytics/summary?days=60");
      const { body } = await read(WARM[0] ?? "");
      expect([cold, body.meta?.cache === "stale"]).toEqual([200, false]);
    },
    { timeoutMs: 20_000 },
  );
  console.log(`healed ${Date.now() - backAt} ms after Postgres was back`);
  await eventually(async () =>
    expect((await read("/analytics/health")).body.breakers.postgresReads).toBe("closed"),
  );
}, 90_000);

test("a credential that nobody has seen is not let in while Postgres is away", async () => {
  await eventually(async () => expect((await read("/analytics/health")).status).toBe(200));
  const { key } = await createTenant(api);
  await postgres.stop("immediate");
  expect((await call("GET", "/analytics/summary", { as: key })).status).toBe(503);
  expect((await call("GET", "/analytics/summary", { as: "ffs_unknown" })).status).not.toBe(200);
  await postgres.start();
}, 60_000);
