import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  countStored,
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  gzip,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const HOUR_MS = 3_600_000;
const send = (json: unknown, as = tenant.key) => api.call("POST", "/events", { as, json });
const bulk = (events: unknown[], frame: object = {}, query = "") =>
  api.call("POST", `/events/bulk${query}`, { as: tenant.key, json: { events, ...frame } });
const readBack = async (id: string) => (await api.call("GET", `/events/${id}`, { as: tenant.key })).body;
const stored = () => countStored(api, tenant.tenantId);
const ndjson = (lines: string[], headers: Record<string, string> = {}, body?: Uint8Array<ArrayBuffer>) =>
  api.call("POST", "/events/bulk", {
    as: tenant.key,
    body: body ?? lines.join("\n"),
    headers: { "content-type": "application/x-ndjson", ...headers },
  });

describe("POST /events", () => {
  test("commits before it answers, and the event reads back whole", async () => {
    const event = {
      type: "purchase",
      messageId: "order-1",
      productId: "Ä/ß 1%?#",
      userId: "user-1",
      anonymousId: "visitor-1",
      sessionId: "session-1",
      timestamp: "2026-11-20T10:00:00.123+02:00",
      properties: { quantity: 2, price: 19.99, nested: { list: [1, "two", null, true] }, ключ: "值 🙂" },
      context: { userAgent: 'quote " backslash \\ {brace} null, comma' },
    };
    const { status, body } = await send(event);
    expect(status).toBe(202);
    expect(body).toEqual({ accepted: true, id: expect.any(String), duplicate: false });
    expect(await stored()).toEqual({ events: 1, batches: 1, keys: 1, stored: 1 });
    expect(await readBack(body.id)).toEqual({
      ...event,
      id: body.id,
      timestamp: "2026-11-20T08:00:00.123Z",
      receivedAt: expect.stringMatching(/Z$/),
      voidedAt: null,
    });
    const [row] =
      await api.sql`select jsonb_typeof(properties) as properties, jsonb_typeof(context) as context,
      quantity, unit_price::text as price from events where tenant_id = ${tenant.tenantId}`;
    expect(row).toEqual({ properties: "object", context: "object", quantity: 2, price: "19.9900" });
  });

  test("a token's subject is the user when none is named", async () => {
    const { userId, token } = await createPerson(api, tenant.tenantId, "customer");
    const { body } = await send({ type: "view" }, token);
    expect(await readBack(body.id)).toMatchObject({ userId, productId: null, properties: null });
  });

  test("a customer speaks for nobody else, an admin may", async () => {
    const customer = await createPerson(api, tenant.tenantId, "customer");
    const admin = await createPerson(api, tenant.tenantId, "admin");
    const event = eventInput({ userId: "somebody-else" });
    expect((await send(event, customer.token)).status).toBe(400);
    expect((await send(event, admin.token)).status).toBe(202);
    expect((await stored()).events).toBe(1);
  });

  test("epoch milliseconds are a timestamp too, and none means now", async () => {
    const [first, second] = [
      await send(eventInput({ timestamp: 1_767_225_600_001 })),
      await send(eventInput()),
    ];
    expect((await readBack(first.body.id)).timestamp).toBe("2026-01-01T00:00:00.001Z");
    const event = await readBack(second.body.id);
    expect(event.timestamp).toBe(event.receivedAt);
  });

  test("sentAt corrects the client's clock", async () => {
    const wrongByMs = 5 * HOUR_MS;
    const clientNow = Date.now() + wrongByMs;
    const { body } = await send(eventInput({ timestamp: clientNow - 60_000, sentAt: clientNow }));
    const event = await readBack(body.id);
    expect(Date.parse(event.receivedAt) - Date.parse(event.timestamp)).toBe(60_000);
    const text = new Date(clientNow).toISOString();
    const inText = await send(eventInput({ timestamp: text, sentAt: text }));
    const second = await readBack(inText.body.id);
    expect(second.timestamp).toBe(second.receivedAt);
  });

  test("more than an hour ahead or older than the retention is refused", async () => {
    const short = await createTenant(api, { event_retention_days: 30 });
    const status = async (timestamp: number) => (await send(eventInput({ timestamp }), short.key)).status;
    const now = Date.now();
    expect(await status(now + HOUR_MS - 10_000)).toBe(202);
    expect(await status(now + HOUR_MS + 10_000)).toBe(400);
    expect(await status(now - 30 * 24 * HOUR_MS + 10_000)).toBe(202);
    expect(await status(now - 30 * 24 * HOUR_MS - 10_000)).toBe(400);
    // Without a retention, for three years and a month.
    const own = async (timestamp: number) => (await send(eventInput({ timestamp }))).status;
    expect(await own(now - 1_125 * 24 * HOUR_MS + 10_000)).toBe(202);
    expect(await own(now - 1_125 * 24 * HOUR_MS - 10_000)).toBe(400);
    expect((await countStored(api, short.tenantId)).events).toBe(2);
  });
});

describe("POST /events/bulk", () => {
  test("stores the valid ones and reports the others, and the numbers add up", async () => {
    const { status, body } = await bulk([
      eventInput({ messageId: "a" }),
      eventInput({ type: "No Such Type!" }),
      eventInput({ messageId: "a" }),
      "not an event",
      { type: "view" },
      eventInput({ properties: { price: -1, quantity: 0 }, type: "refund" }),
      eventInput(),
    ]);
    expect(status).toBe(202);
    expect(body).toMatchObject({ accepted: true, received: 7, inserted: 2, duplicates: 1, rejected: 4 });
    const indices = body.errors.map((error: { index: number }) => error.index);
    expect([...new Set(indices)]).toEqual([1, 3, 4, 5]);
    expect(body.errors[0]).toEqual({
      index: 1,
      path: "type",
      code: expect.any(String),
      message: expect.any(String),
    });
    expect(await stored()).toEqual({ events: 2, batches: 1, keys: 1, stored: 2 });
    const [ledger] = await api.sql`select received, stored, duplicates, rejected from event_batches
      where tenant_id = ${tenant.tenantId}`;
    expect(ledger).toEqual({ received: 7, stored: 2, duplicates: 1, rejected: 4 });
  });

  test("strict stores all or none", async () => {
    const refused = await bulk([eventInput(), { type: "" }], {}, "?strict=true");
    expect(refused.status).toBe(400);
    expect(refused.body.errors[0].path).toStartWith("events.1.");
    expect(await stored()).toEqual({ events: 0, batches: 0, keys: 0, stored: 0 });
    expect((await bulk([eventInput(), eventInput()], {}, "?strict=true")).body.inserted).toBe(2);
  });

  test("a misspelt strict is refused, not taken for its opposite", async () => {
    for (const query of ["?strict=yes", "?strict=TRUE", "?Strict=true"])
      expect((await bulk([eventInput(), { type: "" }], {}, query)).status).toBe(400);
    expect((await stored()).events).toBe(0);
  });

  test("none valid is a 400 that stores nothing", async () => {
    const { status, body } = await bulk([{ type: "view" }, 7, null]);
    expect(status).toBe(400);
    expect(body.errors.map((error: { path: string }) => error.path)).toEqual([
      "events.0.userId",
      "events.1",
      "events.2",
    ]);
    expect(await stored()).toEqual({ events: 0, batches: 0, keys: 0, stored: 0 });
  });

  test.each([
    [1, 202],
    [2_000, 202],
    [2_001, 400],
    [0, 400],
  ])("%d events answer %d", async (count, expected) => {
    const { status } = await bulk(Array.from({ length: count }, () => ({ type: "v", userId: "u" })));
    expect(status).toBe(expected);
    expect((await stored()).events).toBe(expected === 202 ? count : 0);
  });

  test("the frame's session and context are defaults; the event's own win key by key", async () => {
    await bulk([eventInput(), eventInput({ sessionId: "own", context: { page: "own" } })], {
      sessionId: "frame",
      context: { page: "frame", locale: "de" },
    });
    const rows = await api.sql`select session_id, context from events where tenant_id = ${tenant.tenantId}
      order by session_id`;
    expect([...rows]).toEqual([
      { session_id: "frame", context: { page: "frame", locale: "de" } },
      { session_id: "own", context: { page: "own", locale: "de" } },
    ]);
  });

  test("the frame's context keeps to the limits of an event's", async () => {
    const keys = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`k${n}`, n]));
    const contexts = [keys, { text: "a\0b" }, { text: "\ud83d" }, { big: "x".repeat(33_000) }];
    const statuses: number[] = [];
    for (const context of contexts) statuses.push((await bulk([eventInput()], { context })).status);
    expect(statuses).toEqual([400, 400, 400, 400]);
    expect(await stored()).toEqual({ events: 0, batches: 0, keys: 0, stored: 0 });
  });

  test("sentAt corrects the clock of the whole request", async () => {
    const clientNow = Date.now() - 40 * 24 * HOUR_MS;
    await bulk([eventInput({ timestamp: clientNow - 1_000 }), eventInput({ timestamp: clientNow })], {
      sentAt: clientNow,
    });
    const rows = await api.sql`select extract(epoch from received_at - ts)::float8 as age from events
      where tenant_id = ${tenant.tenantId} order by ts`;
    expect(rows.map((row) => row.age)).toEqual([1, 0]);
  });

  test("NDJSON: a bad line stops no other, blank lines count for nothing", async () => {
    const lines = [
      JSON.stringify(eventInput()),
      "",
      "{broken",
      JSON.stringify({ type: "view" }),
      "  ",
      "null",
    ];
    const { status, body } = await ndjson([...lines, JSON.stringify(eventInput()), ""]);
    expect(status).toBe(202);
    expect(body).toMatchObject({ received: 5, inserted: 2, duplicates: 0, rejected: 3 });
    expect(body.errors[0]).toMatchObject({ index: 1, code: "malformed_json" });
    expect((await ndjson(["", " "])).status).toBe(400);
  });

  test("gzip, as JSON and as NDJSON", async () => {
    const headers = { "content-encoding": "gzip" };
    const lines = await ndjson([], headers, await gzip(`${JSON.stringify(eventInput())}\n`.repeat(3)));
    expect(lines.body).toMatchObject({ received: 3, inserted: 3 });
    const body = await gzip(JSON.stringify({ events: [eventInput()] }));
    const json = await api.call("POST", "/events/bulk", {
      as: tenant.key,
      body,
      headers: { ...headers, "content-type": "application/json" },
    });
    expect(json.body).toMatchObject({ received: 1, inserted: 1 });
  });
});
