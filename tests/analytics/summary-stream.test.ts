/**
 * GET /analytics/summary/stream over a socket: what is sent, when and to whom, and what is left
 * after a client has gone.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseConfig } from "../../src/config.ts";
import { AppError } from "../../src/core/errors.ts";
import { JsonText } from "../../src/core/json-text.ts";
import { operatorContext } from "../../src/core/principal.ts";
import type { Deps } from "../../src/deps.ts";
import { toAnswer } from "../../src/features/analytics/answers.ts";
import { createAnalyticsService } from "../../src/features/analytics/index.ts";
import { SummaryStreamQuery } from "../../src/features/analytics/schema.ts";
import { createSummaryStream, type SummaryPace } from "../../src/features/analytics/summary-stream.ts";
import { type Running, startApi } from "../../src/main.ts";
import {
  callOver,
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, freePort, onCleanup } from "../harness.ts";
import { openStream, type SseClient } from "../notifications/sse-client.ts";

const PATH = "/analytics/summary/stream";
const HOUR_MS = 3_600_000;
/** Sends on change alone, as far as a test can wait. */
const ON_CHANGE: SummaryPace = { lookEveryMs: 20, sendEveryMs: HOUR_MS };

let api: TestApi;
let url: string;

beforeAll(async () => {
  api = await createTestApi();
  ({ url } = await startOver(ON_CHANGE));
});
afterAll(cleanup);

/** A server on the application's stores; `changed` replaces parts of its analytics. */
async function startOver(summaryPace?: SummaryPace, changed: Partial<Deps> = {}): Promise<Running> {
  const deps = { ...createTestDeps(api.config), ...changed };
  const { db, cache, readGuard, load, readTenantSettings, timeZones } = deps;
  const parts = { sql: db.read, lookUps: db.lookUps, cache, readGuard, load, readTenantSettings, timeZones };
  const analytics = createAnalyticsService({ ...parts, summaryPace });
  const config = parseConfig({ ...api.env, PORT: String(freePort()), SHUTDOWN_GRACE_MS: "1000" });
  const running = await startApi(config, { ...deps, analytics });
  onCleanup(() => running.stop());
  return running;
}

const open = (tenant: TestTenant, query = "", at = url) =>
  openStream(at, tenant.key, { path: `${PATH}?${query}` });

async function happen(tenant: TestTenant, events = 1): Promise<void> {
  const json = { events: Array.from({ length: events }, () => eventInput()) };
  expect((await api.call("POST", "/events/bulk", { as: tenant.key, json })).status).toBe(202);
  await rollUpAll(api);
}

// biome-ignore lint/suspicious/noExplicitAny: whatever the event holds
const data = ({ events }: SseClient): any[] => events.map((event) => event.data);
const views = (client: SseClient) => data(client).map(({ totals }) => totals?.views);

describe("a stream of summaries", () => {
  test("begins with what the summary answers, and sends what a roll-up changes", async () => {
    const tenant = await createTenant(api);
    await happen(tenant, 2);
    const client = await open(tenant, "days=7&groupBy=hour&compare=previous");
    expect(client.status).toBe(200);
    expect(client.headers.get("content-type")).toBe("text/event-stream");
    await client.untilEvents(1);
    const { body } = await api.call("GET", "/analytics/summary?days=7&groupBy=hour&compare=previous", {
      as: tenant.key,
    });
    const [{ meta, ...first }] = data(client);
    const { meta: metaOfGet, ...answered } = body;
    expect(client.events[0]).toMatchObject({ event: "summary", id: "" });
    expect(first).toEqual(answered);
    expect(Object.keys(meta).sort()).toEqual(Object.keys(metaOfGet).sort());
    expect(first.totals.views).toBe(2);
    await happen(tenant, 3);
    await client.untilEvents(2);
    expect(views(client)).toEqual([2, 5]);
  });

  test("is quiet while nothing changes, and sends it again after a while with the meta of that moment", async () => {
    const tenant = await createTenant(api);
    await happen(tenant);
    const ticking = await startOver({ lookEveryMs: 20, sendEveryMs: 200 });
    const [quiet, beating] = [await open(tenant), await open(tenant, "", ticking.url)];
    await beating.untilEvents(4);
    expect(quiet.events.length).toBe(1);
    expect(new Set(views(beating))).toEqual(new Set([1]));
    expect(data(beating).at(-1).meta.cache).toBe("hit");
  });

  test("does both at the contract's pace when none is given", async () => {
    const tenant = await createTenant(api);
    await happen(tenant);
    const usual = await startOver();
    const client = await open(tenant, "", usual.url);
    await client.untilEvents(1);
    const startedAt = performance.now();
    await client.untilEvents(2);
    const tookMs = performance.now() - startedAt;
    expect(views(client)).toEqual([1, 1]);
    await happen(tenant);
    await client.untilEvents(3);
    expect(views(client)[2]).toBe(2);
    console.log(`sent again after ${Math.round(tookMs)} ms`);
  }, 20_000);

  test("shows a tenant its own only", async () => {
    const [tenant, stranger] = [await createTenant(api), await createTenant(api)];
    const clients = [await open(tenant), await open(stranger)];
    for (const client of clients) await client.untilEvents(1);
    await happen(tenant, 4);
    // The mark: the stranger's stream has looked since.
    await happen(stranger, 1);
    for (const client of clients) await client.untilEvents(2);
    expect(clients.map(views)).toEqual([
      [0, 4],
      [0, 1],
    ]);
  });

  test("is refused without a credential, to other roles, and for input that is none", async () => {
    const tenant = await createTenant(api);
    const call = callOver(url);
    const { token: customer } = await createPerson(api, tenant.tenantId, "customer");
    const { token: analyst } = await createPerson(api, tenant.tenantId, "analyst");
    const publishable = await createKey(api, tenant.tenantId, ["events:write"]);
    expect((await call("GET", PATH)).status).toBe(401);
    for (const as of [customer, publishable]) expect((await call("GET", PATH, { as })).status).toBe(403);
    for (const as of [analyst, await createKey(api, tenant.tenantId, ["analytics:read"])])
      expect((await openStream(url, as, { path: PATH })).status).toBe(200);
    for (const query of ["skipCache=true", "groupBy=year", "days=0", "startDate=2026-02-30", "topics=x"])
      expect((await call("GET", `${PATH}?${query}`, { as: tenant.key })).status, query).toBe(400);
  });
});

describe("those who follow", () => {
  test("the same summary share each look at it; the last one to leave ends it", async () => {
    const tenant = await createTenant(api);
    let looks = 0;
    const cache: Deps["cache"] = {
      ...api.deps.cache,
      getOrCompute: (question, compute) => {
        looks += 1;
        return api.deps.cache.getOrCompute(question, compute);
      },
    };
    const counted = await startOver({ lookEveryMs: 5, sendEveryMs: HOUR_MS }, { cache });
    const clients = await Promise.all(Array.from({ length: 30 }, () => open(tenant, "", counted.url)));
    for (const client of clients) await client.untilEvents(1);
    const [before, startedAt] = [looks, performance.now()];
    await eventually(() => looks >= before + 20, { intervalMs: 1 });
    const most = (performance.now() - startedAt) / 5 + 2;
    expect(looks - before).toBeLessThanOrEqual(most);
    await happen(tenant);
    for (const client of clients) await client.untilEvents(2);
    for (const client of clients) client.close();
    // Until a whole stretch of time has gone by without one.
    let last = -1;
    const ended = () => {
      const same = looks === last;
      last = looks;
      return same;
    };
    await eventually(ended, { intervalMs: 200 });
  });

  test("are as many as the limits of streams say, and their summaries no more than a hundred", async () => {
    const tenant = await createTenant(api);
    // A few at a time: Postgres refuses more new questions at once than it can soon answer.
    const clients: Awaited<ReturnType<typeof open>>[] = [];
    for (let n = 0; n < 100; n += 10)
      clients.push(
        ...(await Promise.all(Array.from({ length: 10 }, (_, i) => open(tenant, `days=${n + i + 1}`)))),
      );
    expect(clients.every(({ status }) => status === 200)).toBe(true);
    expect((await open(tenant, "days=100")).status).toBe(200);
    const { status, headers } = await callOver(url)("GET", `${PATH}?days=101`, { as: tenant.key });
    expect([status, headers.get("retry-after")]).toEqual([429, "5"]);
    clients[0]?.close();
    await eventually(async () => expect((await open(tenant, "days=101")).status).toBe(200));
  });
});

test("who does not read is sent what stands once it does, and not all that lay between", async () => {
  const { tenantId } = await createTenant(api);
  const leaving = new AbortController();
  onCleanup(() => leaving.abort());
  let revision = 0;
  const getSummary = async () => toAnswer(JsonText.of({ revision }), {} as never);
  const follow = createSummaryStream(getSummary, { lookEveryMs: 1, sendEveryMs: HOUR_MS });
  const delivered: unknown[] = [];
  let read = () => {};
  await follow(operatorContext(tenantId), SummaryStreamQuery.parse({}), {
    deliver: ({ data }) => delivered.push((data as { revision: number }).revision),
    drained: () => new Promise((resolve) => (read = resolve)),
    fail: () => {},
    signal: leaving.signal,
  });
  for (revision = 1; revision < 20; revision += 1) await Bun.sleep(1);
  expect(delivered).toEqual([0]);
  read();
  await eventually(() => expect(delivered).toEqual([0, 20]));
});

test("what is unavailable for a while is said, and the stream goes on; what is broken ends it", async () => {
  const tenant = await createTenant(api);
  let failure: Error | null = null;
  const cache: Deps["cache"] = {
    ...api.deps.cache,
    getOrCompute: (question, compute) =>
      failure ? Promise.reject(failure) : api.deps.cache.getOrCompute(question, compute),
  };
  const failing = await startOver(ON_CHANGE, { cache });
  const client = await open(tenant, "", failing.url);
  await client.untilEvents(1);
  failure = new AppError("unavailable", "The database can't be reached right now.");
  const refused = await callOver(failing.url)("GET", PATH, { as: tenant.key });
  expect(refused.status).toBe(503);
  await client.untilEvents(2);
  failure = null;
  await client.untilEvents(3);
  expect(client.events.map(({ event }) => event)).toEqual(["summary", "unavailable", "summary"]);
  expect(client.events[1]?.data).toEqual({
    code: "unavailable",
    detail: "The database can't be reached right now.",
  });
  failure = new Error("a defect");
  await eventually(() => client.ended);
  expect(client.events.length).toBe(3);
});
