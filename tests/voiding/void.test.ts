/**
 * POST /events/:id/void: an event counts in no figure any more, as if it had never been sent. It is
 * still shown.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createSweeper } from "../../worker/jobs/sweeper.ts";
import {
  createKey,
  createPerson,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createFiles, importFile } from "../import/fixtures.ts";
import { createProduct, handleAll, orderInput } from "../orders/shop.ts";
import {
  countedRows,
  createShop,
  expectNoDifference,
  idsByMessage,
  randomEvents,
  send,
  voidEvent,
  ZONE,
} from "./stage.ts";

let api: TestApi;
let shop: TestTenant;
beforeAll(async () => {
  api = await createTestApi({ CACHE_STALE_MS: "0" });
});
beforeEach(async () => {
  shop = await createShop(api);
});
afterAll(cleanup);

const DAYS = "startDate=2026-10-20&endDate=2026-11-05";
const QUESTIONS = [
  `/analytics/summary?${DAYS}`,
  `/analytics/summary?${DAYS}&groupBy=hour&timeZone=Asia/Kathmandu`,
  `/analytics/products/top?${DAYS}&sortBy=revenue`,
  `/analytics/products/stats?${DAYS}`,
  `/analytics/products/p-1/timeseries?${DAYS}`,
  `/analytics/breakdown?${DAYS}&property=country`,
  `/analytics/funnel?${DAYS}&steps=view,purchase`,
  `/analytics/funnel?${DAYS}&steps=view,view`,
  `/analytics/retention?${DAYS}&period=day`,
  `/analytics/users/u-1/summary?${DAYS}`,
];

async function answersOf({ key }: TestTenant): Promise<unknown[]> {
  const answers: unknown[] = [];
  for (const path of QUESTIONS) {
    const { status, body } = await api.call("GET", path, { as: key });
    expect(`${path} ${status}`).toBe(`${path} 200`);
    const { meta, ...answer } = body;
    answers.push(answer);
  }
  return answers;
}

/**
 * Voids every third event of `shop`, sends the rest to another shop, and expects both to count the
 * same.
 */
async function expectAsNeverSent(events: Record<string, unknown>[]): Promise<void> {
  const ids = await idsByMessage(api, shop);
  const wrong = events.filter((_, n) => n % 3 === 0);
  for (const [n, { messageId }] of wrong.entries()) {
    const { status, body } = await voidEvent(api, shop.key, ids.get(String(messageId)) ?? "");
    expect([status, body.alreadyVoided]).toEqual([200, false]);
    if (n % 20 === 0) await expectNoDifference(api, shop);
  }
  const other = await createShop(api);
  await send(
    api,
    other,
    events.filter((event) => !wrong.includes(event)),
  );
  await rollUpAll(api);
  await api.deps.returnsFolder.fold();
  await expectNoDifference(api, shop);
  expect(await countedRows(api, shop)).toEqual(await countedRows(api, other));
  expect(await answersOf(shop)).toEqual(await answersOf(other));
}

test("rolled up and folded before, it counts as never sent: in every rollup and every answer", async () => {
  const events = randomEvents(1, 150);
  await send(api, shop, events);
  await rollUpAll(api);
  await api.deps.returnsFolder.fold();
  const before = await answersOf(shop);
  await expectAsNeverSent(events);
  expect(await answersOf(shop)).not.toEqual(before);
}, 60_000);

test("rolled up and not folded yet, too", async () => {
  const events = randomEvents(2, 90);
  await send(api, shop, events);
  await rollUpAll(api);
  await expectAsNeverSent(events);
}, 60_000);

test("of a batch that is not rolled up yet, it is never counted, and the others are", async () => {
  const events = randomEvents(3, 90);
  for (let n = 0; n < events.length; n += 10) await send(api, shop, events.slice(n, n + 10));
  await expectAsNeverSent(events);
}, 60_000);

test("all events of a tenant leave nothing behind", async () => {
  const events = randomEvents(4, 30);
  await send(api, shop, events);
  await rollUpAll(api);
  await api.deps.returnsFolder.fold();
  for (const id of (await idsByMessage(api, shop)).values()) await voidEvent(api, shop.key, id);
  for (const rows of Object.values(await countedRows(api, shop))) expect(rows).toEqual([]);
  await expectNoDifference(api, shop);
}, 30_000);

test("realtime and cached answers leave it out at once", async () => {
  const { body } = await api.call("POST", "/events", { as: shop.key, json: eventInput() });
  await api.call("POST", "/events", { as: shop.key, json: eventInput({ type: "click", productId: "p-2" }) });
  await rollUpAll(api);
  const realtime = async () =>
    (await api.call("GET", "/analytics/realtime?skipCache=true", { as: shop.key })).body;
  const summary = async () => (await api.call("GET", "/analytics/summary?days=7", { as: shop.key })).body;
  expect(await realtime()).toMatchObject({
    events: 2,
    topProducts: [{ productId: "p-1" }, { productId: "p-2" }],
  });
  await summary();
  expect(await summary()).toMatchObject({ totals: { events: 2 }, meta: { cache: "hit" } });
  await voidEvent(api, shop.key, body.id);
  expect(await summary()).toMatchObject({
    totals: { events: 1, views: 0, clicks: 1 },
    meta: { cache: "miss" },
  });
  expect(await realtime()).toMatchObject({ events: 1, topProducts: [{ productId: "p-2" }] });
});

test("a second call changes nothing and says so; reads, lists and exports show since when", async () => {
  const { body: event } = await api.call("POST", "/events", {
    as: shop.key,
    json: eventInput({ messageId: "m" }),
  });
  const person = await createPerson(api, shop.tenantId, "admin");
  const first = await voidEvent(api, person.token, event.id);
  expect(first).toMatchObject({ status: 200, body: { id: event.id, alreadyVoided: false } });
  const { voidedAt } = first.body;
  const second = await voidEvent(api, shop.key, event.id);
  expect(second.body).toEqual({ id: event.id, voidedAt, alreadyVoided: true });

  const read = async (path: string) => (await api.call("GET", path, { as: shop.key })).body;
  expect(await read(`/events/${event.id}`)).toMatchObject({ id: event.id, voidedAt });
  expect((await read("/events")).items).toMatchObject([{ id: event.id, voidedAt }]);
  expect(JSON.parse((await read("/events/export")).split("\n")[0])).toMatchObject({ voidedAt });
  const [header, row] = (await read("/events/export?format=csv")).split("\r\n");
  expect(row.split(",")[header.split(",").indexOf("voidedAt")]).toBe(voidedAt);
  // The message stays known: the right one is sent with another id.
  const again = await api.call("POST", "/events", { as: shop.key, json: eventInput({ messageId: "m" }) });
  expect(again.body).toMatchObject({ id: event.id, duplicate: true });

  const audited = (await read("/audit")).items.filter(
    ({ action }: { action: string }) => action === "event.voided",
  );
  expect(audited).toMatchObject([
    {
      actorKind: "user",
      actorId: person.userId,
      target: event.id,
      before: { type: "view", productId: "p-1", voidedAt: null },
      after: { voidedAt },
    },
  ]);
});

test("a voided event of an export is not imported again", async () => {
  await send(api, shop, randomEvents(5, 4));
  const [id] = (await idsByMessage(api, shop)).values();
  await voidEvent(api, shop.key, id ?? "");
  const write = createFiles();
  for (const format of ["ndjson", "csv"]) {
    const { body } = await api.call("GET", `/events/export?format=${format}`, { as: shop.key });
    const other = await createShop(api);
    const imported = await importFile(api, other, await write(`export.${format}`, body));
    expect(imported.stdout + imported.stderr).toContain("counts in no figure");
    const [row] = await api.sql`select count(*)::int as n from events where tenant_id = ${other.tenantId}`;
    expect(row?.n).toBe(3);
  }
}, 30_000);

test("is a 404 for what is not there, not there any more, or somebody else's", async () => {
  const other = await createShop(api);
  const { body } = await api.call("POST", "/events", { as: other.key, json: eventInput() });
  const absent = [
    "nothing",
    "00000000-0000-7000-8000-000000000000",
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
    body.id,
  ];
  for (const id of absent) {
    const { status, body: problem } = await voidEvent(api, shop.key, id);
    expect([status, problem.code]).toEqual([404, "not_found"]);
  }
  await rollUpAll(api);
  const counted = await countedRows(api, other);
  await api.sql`delete from events where tenant_id = ${other.tenantId}`;
  const { status, body: problem } = await voidEvent(api, other.key, body.id);
  expect(status).toBe(404);
  expect(problem.detail).toContain("no longer kept");
  expect(await countedRows(api, other)).toEqual(counted);
});

test("is for admins, and keys of the scope admin", async () => {
  const { body } = await api.call("POST", "/events", { as: shop.key, json: eventInput() });
  const writer = await createKey(api, shop.tenantId, ["events:write", "events:read", "analytics:read"]);
  const others = await Promise.all(
    (["seller", "analyst", "customer"] as const).map((role) => createPerson(api, shop.tenantId, role)),
  );
  for (const as of [writer, ...others.map(({ token }) => token)])
    expect((await voidEvent(api, as, body.id)).status).toBe(403);
  expect((await voidEvent(api, shop.key, body.id)).status).toBe(200);
});

test("sales that were made here stay: revenue equals purchases and orders", async () => {
  await createProduct(api, shop, "p-1", { price: "12.50" });
  const purchase = await api.call("POST", "/purchases", {
    as: shop.key,
    json: { productId: "p-1", quantity: 2 },
  });
  expect(purchase.status).toBe(201);
  const order = await api.call("POST", "/orders", { as: shop.key, json: orderInput() });
  await handleAll(api);
  await api.call("DELETE", `/orders/${order.body.id}`, { as: shop.key });
  await handleAll(api);
  await rollUpAll(api);
  const { body } = await api.call("GET", "/events?limit=100", { as: shop.key });
  const facts = body.items as {
    id: string;
    type: string;
    timestamp: string;
    properties: Record<string, unknown>;
  }[];
  expect(facts.map(({ type }) => type).sort()).toEqual(["purchase", "purchase", "refund"]);
  const counted = await countedRows(api, shop);
  for (const { id, properties } of facts) {
    const { status, body: problem } = await voidEvent(api, shop.key, id);
    expect([status, problem.code]).toEqual([409, "conflict"]);
    expect(problem.detail).toContain(
      properties.orderId ? `order ${order.body.id}, which was placed here` : `purchase ${purchase.body.id}`,
    );
    expect(problem.detail).toContain(
      properties.orderId ? "cancel the order instead" : "send a refund event instead",
    );
  }
  expect(await countedRows(api, shop)).toEqual(counted);

  // What the shop's own pages sent about the same sales counts them twice, and can be voided.
  const [fact] = facts;
  const copies = [
    { messageId: "copy", timestamp: fact?.timestamp },
    { timestamp: Date.parse(fact?.timestamp ?? "") - 1 },
  ];
  for (const copy of copies) {
    const json = eventInput({ type: fact?.type, properties: fact?.properties, ...copy });
    const sent = await api.call("POST", "/events", { as: shop.key, json });
    expect((await voidEvent(api, shop.key, sent.body.id)).status).toBe(200);
  }
  await rollUpAll(api);
  await expectNoDifference(api, shop);
  expect(await countedRows(api, shop)).toEqual(counted);
}, 30_000);

test("an event whose batch was given up goes, and the batch is counted; or it says what is in the way", async () => {
  const giveUp =
    () => api.sql`update event_batches set attempts = 5, dead_lettered_at = now(), last_error = 'test'
    where tenant_id = ${shop.tenantId} and rolled_up_at is null`;
  const poison = { type: "purchase", properties: { quantity: 1, price: 1 } };
  await send(api, shop, [eventInput(), eventInput(poison), eventInput(poison)]);
  const events = await api.sql<{ id: string }[]>`
    select id from events where tenant_id = ${shop.tenantId} and type = 'purchase' order by id`;
  // Postgres refuses to count these.
  await api.sql`alter table event_daily_stats add constraint poison check (type <> 'purchase' or revenue < 1) not valid`;
  try {
    await giveUp();
    const [first, second] = events.map(({ id }) => id);
    const refused = await voidEvent(api, shop.key, first ?? "");
    expect([refused.status, refused.body.code]).toEqual([409, "conflict"]);
    expect(refused.body.detail).toContain("dead letters");
    await api.sql`update events set unit_price = 0 where tenant_id = ${shop.tenantId} and id = ${second ?? ""}`;
    expect((await voidEvent(api, shop.key, first ?? "")).status).toBe(200);
  } finally {
    await api.sql`alter table event_daily_stats drop constraint poison`;
  }
  await createSweeper(api.deps, "test").runOnce();
  await rollUpAll(api);
  await expectNoDifference(api, shop);
  const { body } = await api.call("GET", `/analytics/summary?days=2&timeZone=${ZONE}`, { as: shop.key });
  expect(body.totals).toMatchObject({ events: 2, views: 1, purchases: 1 });
});

test("while a property is being filled, it leaves the part that is filled, and the rest never counts it", async () => {
  const events = randomEvents(7, 60).map((event, n) => ({ ...event, context: { campaign: `c-${n % 4}` } }));
  await send(api, shop, events.slice(0, 50));
  await rollUpAll(api);
  const json = { properties: ["country", "campaign"] };
  expect((await api.call("PUT", "/tenants/current/properties", { as: shop.key, json })).status).toBe(200);
  // Counted by their own batch, at which the fill does not look.
  await send(api, shop, events.slice(50));
  await rollUpAll(api);
  const ids = [...(await idsByMessage(api, shop)).values()];
  for (let n = 0; n < ids.length; n += 5) {
    await api.deps.propertyFills.fill({ events: 8, rows: 8 }, 0);
    await voidEvent(api, shop.key, ids[n] ?? "");
    await expectNoDifference(api, shop);
  }
  while ((await api.deps.propertyFills.fill({ events: 8, rows: 8 }, 0)) > 0);
  await rollUpAll(api);
  await expectNoDifference(api, shop);
  const { body } = await api.call("GET", `/analytics/breakdown?${DAYS}&property=campaign`, { as: shop.key });
  const total = body.items.reduce((sum: number, item: { events: number }) => sum + item.events, 0);
  expect(total).toBe(60 - 12);
}, 60_000);
