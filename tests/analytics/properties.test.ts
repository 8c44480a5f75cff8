/**
 * Breakdowns by chosen properties. A property chosen late is filled from stored events, each
 * exactly once, whatever ingests, rolls up, links, rebuilds, prunes or is killed meanwhile.
 * `verify` is clean at every moment.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { classifyFailure } from "../../src/db/failures.ts";
import type { Deps } from "../../src/deps.ts";
import { rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, runFootfall, startWorker } from "../harness.ts";
import { breakdown, randomFrom } from "../worker/brute-force.ts";
import { readRaw } from "../worker/shop-data.ts";

const DEFAULT = [
  "country",
  "device",
  "browser",
  "os",
  "referrer",
  "utm_source",
  "utm_medium",
  "utm_campaign",
];
const RANGE = "startDate=2026-09-01&endDate=2026-09-30";
/** Small enough that every fill here takes many transactions. */
const SIZES = { events: 17, rows: 5 };

let api: TestApi;
let other: Deps;
const random = randomFrom(11);
const pick = (n: number) => Math.floor(random() * n);

beforeAll(async () => {
  api = await createTestApi();
  other = createTestDeps(api.config);
});
afterAll(cleanup);

async function send(shop: TestTenant, count: number): Promise<void> {
  const events = Array.from({ length: count }, () => ({
    ...(pick(3) === 0 ? { type: "purchase" } : { type: "view" }),
    ...{ productId: `p-${pick(4)}`, anonymousId: `a-${pick(5)}`, sessionId: `s-${pick(5)}` },
    timestamp: Date.parse("2026-09-01T00:00:00Z") + pick(30 * 24 * 3_600) * 1_000,
    properties: { price: 1 + pick(5), plan: `plan-${pick(4)}`, size: pick(3), country: "DE" },
  }));
  const { status } = await api.call("POST", "/events/bulk", { as: shop.key, json: { events } });
  expect(status).toBe(202);
}

async function openShop(events = 200): Promise<TestTenant> {
  const shop = await createTenant(api);
  if (events > 0) await send(shop, events);
  await rollUpAll(api);
  return shop;
}

const choose = (shop: TestTenant, properties: string[]) =>
  api.call("PUT", "/tenants/current/properties", { as: shop.key, json: { properties } });
const chosen = async (shop: TestTenant) =>
  (await api.call("GET", "/tenants/current/properties", { as: shop.key })).body;
const stateOf = async (shop: TestTenant, name: string) =>
  (await chosen(shop)).items.find((item: { name: string }) => item.name === name);
const ask = (shop: TestTenant, property: string, more = "") =>
  api.call("GET", `/analytics/breakdown?property=${property}&${RANGE}&limit=50${more}`, { as: shop.key });

async function expectClean({ tenantId }: TestTenant): Promise<string[]> {
  const zone = { tenantId, timeZone: "UTC" };
  const { differences, differing, filling } = await verifyTenant(api.deps.db.transactions, zone, {});
  expect({ differences, differing }).toEqual({ differences: [], differing: 0 });
  return filling;
}

async function expectExact(shop: TestTenant, ...properties: string[]): Promise<void> {
  const raw = await readRaw(api.sql, shop.tenantId);
  for (const property of properties) {
    const { status, body } = await ask(shop, property, "&skipCache=true");
    expect(status).toBe(200);
    expect(body.items).toEqual(breakdown(raw, property, 50));
    expect(body.items.length).toBeGreaterThan(1);
  }
  expect(await expectClean(shop)).toEqual([]);
}

/** Whatever waits of the tests before. */
const fillAll = () => api.deps.propertyFills.fill(SIZES);
/** One transaction: no test leaves anything to do for another one's tenant. */
const fillOnce = (deps: Pick<Deps, "propertyFills"> = api.deps) => deps.propertyFills.fill(SIZES, 0);

test("an unknown property is refused with those there are, a chosen one counts all events", async () => {
  const shop = await openShop();
  const refused = await ask(shop, "plan");
  expect(refused.status).toBe(400);
  expect(refused.body.errors[0]).toMatchObject({ path: "property", code: "unknown_property" });
  expect(refused.body.errors[0].message).toContain(DEFAULT.join(", "));
  expect(refused.body.detail).toContain(DEFAULT.join(", "));
  const json = { metrics: ["events"], dimensions: ["property"], property: "plan" };
  expect((await api.call("POST", "/analytics/query", { as: shop.key, json })).status).toBe(400);

  const { status, body } = await choose(shop, [...DEFAULT, "plan", "size"]);
  expect(status).toBe(200);
  expect(body.items.map(({ name }: { name: string }) => name)).toEqual([...DEFAULT, "plan", "size"]);
  expect(body.items.at(-1)).toEqual({ name: "size", state: "filling", progress: 0 });
  const empty = (await ask(shop, "plan")).body;
  expect([empty.items, empty.notes[0].code]).toEqual([[], "property_filling"]);
  await fillAll();
  expect((await chosen(shop)).items.every(({ state }: { state: string }) => state === "ready")).toBe(true);
  await expectExact(shop, "plan", "size");
  // What was cached of before has gone.
  const filled = (await ask(shop, "plan")).body;
  expect(filled.items.length).toBe(4);
  expect(filled.notes).toBeUndefined();
  await send(shop, 40);
  await rollUpAll(api);
  await expectExact(shop, "plan", "size");
});

test("goes on in small transactions, shows how far it is, and verify is clean after each", async () => {
  const shop = await openShop(150);
  await choose(shop, ["country", "plan"]);
  const progress: number[] = [];
  for (let transaction = 0; ; transaction += 1) {
    expect(transaction).toBeLessThan(40);
    const { state, progress: share } = await stateOf(shop, "plan");
    if (state === "ready") break;
    progress.push(share);
    if (transaction % 2 === 0) {
      await send(shop, 9);
      await rollUpAll(api);
    }
    expect(await expectClean(shop)).toEqual(["plan"]);
    await fillOnce();
  }
  expect(progress.length).toBeGreaterThan(8);
  expect(progress).toEqual(progress.toSorted((a, b) => a - b));
  expect(progress.at(-1)).toBeGreaterThan(0.5);
  await expectExact(shop, "plan");
});

test("the command says what it compared while properties are being filled", async () => {
  const shop = await openShop(60);
  await choose(shop, [...DEFAULT, "plan"]);
  for (let step = 0; step < 3; step += 1) await fillOnce();
  const { exitCode, stdout } = await runFootfall(["verify", "--tenant", shop.slug], api.env);
  expect(stdout).toContain("plan: being filled from earlier events");
  expect([exitCode, stdout.includes("clean")]).toEqual([0, true]);
  await fillAll();
}, 20_000);

test("what is given up is cleared, and chosen again meanwhile it is filled anew", async () => {
  const shop = await openShop();
  await choose(shop, ["plan", "size"]);
  await fillAll();
  await expectExact(shop, "plan", "size");
  const rows = async (property: string) =>
    (
      await api.sql`select count(*)::int as n from property_daily_stats
      where tenant_id = ${shop.tenantId} and property = ${property}`
    )[0]?.n;
  expect((await choose(shop, ["size"])).body).toMatchObject({ removing: ["plan"] });
  expect((await other.readTenantSettings(shop.tenantId)).properties).toEqual(["size"]);
  for (let step = 0; step < 4; step += 1) await fillOnce();
  expect(await rows("plan")).toBeGreaterThan(0);
  await expectClean(shop);
  // Half cleared: clearing goes on to the end, and then filling begins again.
  const again = (await choose(shop, ["size", "plan"])).body;
  expect(again).toMatchObject({ removing: [] });
  expect(again.items).toContainEqual({ name: "plan", state: "filling", progress: 0 });
  await send(shop, 30);
  await rollUpAll(api);
  await expectClean(shop);
  await fillAll();
  await expectExact(shop, "plan", "size");
  await choose(shop, []);
  await fillAll();
  expect([await rows("plan"), await rows("size")]).toEqual([0, 0]);
  expect(await chosen(shop)).toEqual({ items: [], removing: [] });
  expect((await ask(shop, "plan")).body.errors[0].message).toContain("there are none");
});

test("a roll-up that does not know of the choice yet is waited for", async () => {
  const shop = await openShop(50);
  await send(shop, 20);
  const rolling = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  // It has read what the tenant had chosen, and waits for the last row that it writes.
  const held = api.sql.begin(async (tx) => {
    await tx`select 1 from ingest_hourly_stats where tenant_id = ${shop.tenantId} for update`;
    rolling.resolve();
    await released.promise;
  });
  await rolling.promise;
  const rolledUp = rollUpAll({ deps: other });
  try {
    await eventually(async () => (await waitingBackends()).length > 0);
    await choose(shop, [...DEFAULT, "plan"]);
    await expect(api.deps.propertyFills.fill(SIZES).then(() => null, classifyFailure)).resolves.toBe(
      "locked",
    );
    expect(await stateOf(shop, "plan")).toMatchObject({ state: "filling", progress: 0 });
  } finally {
    released.resolve();
    await held;
  }
  await rolledUp;
  await fillAll();
  await expectExact(shop, "plan");
}, 20_000);

const waitingBackends = () => api.sql`
  select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;

test("the ledger keeps what a fill needs to know, and is pruned afterwards", async () => {
  const shop = await openShop(100);
  await choose(shop, [...DEFAULT, "plan"]);
  await fillOnce();
  await fillOnce();
  await send(shop, 30);
  await rollUpAll(api);
  const age = () => api.sql`update event_batches set received_at = received_at - interval '2 hours',
    rolled_up_at = rolled_up_at - interval '2 hours' where tenant_id = ${shop.tenantId}`;
  await age();
  await api.deps.rollups.prune();
  const ledger = async () =>
    (await api.sql`select count(*)::int as n from event_batches where tenant_id = ${shop.tenantId}`)[0]?.n;
  expect(await ledger()).toBe(2);
  await fillAll();
  await api.deps.rollups.prune();
  expect(await ledger()).toBe(0);
  await expectExact(shop, "plan");
});

test("a worker that is killed in the middle has done nothing, and another goes on", async () => {
  const shop = await openShop(120);
  await choose(shop, [...DEFAULT, "plan"]);
  for (let step = 0; step < 4; step += 1) await fillOnce();
  const before = await stateOf(shop, "plan");
  expect(before.progress).toBeGreaterThan(0);
  const locked = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const held = api.sql.begin(async (tx) => {
    await tx`lock table property_daily_stats in share mode`;
    locked.resolve();
    await released.promise;
  });
  await locked.promise;
  try {
    const worker = await startWorker(api.env);
    await eventually(async () => {
      const waiting = await api.sql`select pid from pg_locks
        where relation = 'property_daily_stats'::regclass and not granted`;
      return waiting.length > 0;
    });
    worker.kill("SIGKILL");
    await worker.exited;
  } finally {
    released.resolve();
    await held;
  }
  expect(await stateOf(shop, "plan")).toEqual(before);
  expect(await expectClean(shop)).toEqual(["plan"]);
  await other.propertyFills.fill(SIZES);
  await expectExact(shop, "plan");
}, 30_000);

test("an event that is voided while a property is filled leaves what is counted of it, and no more", async () => {
  const shop = await openShop(90);
  await choose(shop, [...DEFAULT, "plan"]);
  for (let step = 0; step < 3; step += 1) await fillOnce();
  await send(shop, 30);
  await rollUpAll(api);
  // The first ones are filled, the last ones are not, and the last batch's own roll-up counted its
  // events.
  const ids = await api.sql<{ id: string }[]>`
    select id from events where tenant_id = ${shop.tenantId} order by ts, id`;
  for (const { id } of [...ids.slice(0, 10), ...ids.slice(-25)]) {
    expect((await api.call("POST", `/events/${id}/void`, { as: shop.key })).status).toBe(200);
    expect(await expectClean(shop)).toEqual(["plan"]);
  }
  await fillAll();
  expect(await expectClean(shop)).toEqual([]);
  const [row] = await api.sql`select sum(events)::int as n from property_daily_stats
    where tenant_id = ${shop.tenantId} and property = 'plan'`;
  expect(row?.n).toBe(ids.length - 35);
});

test("two fill at once while events come, sessions are linked, somebody rebuilds and chooses", async () => {
  const shop = await openShop(300);
  const { token } = await createPerson(api, shop.tenantId, "customer");
  let working = true;
  const until = async (work: () => Promise<unknown>) => {
    while (working) {
      await work();
      await Bun.sleep(pick(40));
    }
  };
  const link = async () => {
    const json = { sessionId: `s-${pick(5)}` };
    const { status } = await api.call("POST", "/events/link-session", { as: token, json });
    expect([200, 503]).toContain(status);
  };
  /** A roll-up or a rebuild may hold its lock for longer than the fence waits. */
  const fill = ({ propertyFills }: Deps) =>
    propertyFills.fill(SIZES, 200).catch((error) => expect(classifyFailure(error)).toBe("locked"));
  const compare = async () => {
    for (let round = 0; round < 6 && working; round += 1) {
      const properties = round % 3 === 2 ? ["size"] : ["size", "plan"];
      expect((await choose(shop, properties)).status).toBe(200);
      if (round % 2) await rebuildTenant(other.db.transactions, { ...shop, timeZone: "UTC" }, {});
      await expectClean(shop);
    }
    working = false;
  };
  const racers = [
    until(() => send(shop, 1 + pick(12))),
    until(() => rollUpAll(api)),
    until(() => rollUpAll({ deps: other })),
    ...[until(() => fill(api.deps)), until(() => fill(other)), until(link), compare()],
  ];
  await Promise.all(
    racers.map((racer) =>
      racer.finally(() => {
        working = false;
      }),
    ),
  );
  await choose(shop, ["size", "plan"]);
  await rollUpAll(api);
  await api.deps.propertyFills.fill({ events: 500, rows: 500 });
  await expectExact(shop, "size", "plan");
}, 60_000);
