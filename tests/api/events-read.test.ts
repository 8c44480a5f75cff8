import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, eventInput, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let other: TestTenant;

interface Listed {
  id: string;
  timestamp: string;
  type: string;
  productId: string | null;
  userId: string | null;
  sessionId: string | null;
}

const EVENTS = 90;
const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 8, 25);

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  other = await createTenant(api);
  for (const { key } of [tenant, other]) {
    // Over two months' partitions, many events sharing their millisecond.
    const events = Array.from({ length: EVENTS }, (_, n) =>
      eventInput({
        type: n % 3 ? "view" : "click",
        productId: `p-${n % 7}`,
        userId: n % 4 ? undefined : `u-${n % 8}`,
        sessionId: `s-${n % 5}`,
        timestamp: START_MS + Math.floor(n / 6) * DAY_MS,
      }),
    );
    await api.call("POST", "/events/bulk", { as: key, json: { events } });
  }
});
afterAll(cleanup);

const list = (query: Record<string, string>, as = tenant.key) =>
  api.call("GET", `/events?${new URLSearchParams(query)}`, { as });

async function readAll(query: Record<string, string>): Promise<Listed[]> {
  const all: Listed[] = [];
  for (let cursor: string | null = null; ; ) {
    const { status, body } = await list(cursor ? { ...query, cursor } : query);
    expect(status).toBe(200);
    all.push(...body.items);
    cursor = body.nextCursor;
    if (cursor === null) return all;
    expect(body.items.length).toBe(Number(query.limit ?? 20));
  }
}

describe("lists", () => {
  test.each([1, 2, 7, 20, 89, 90, 91, 100])(
    "pages of %d add up to all, newest first, each once",
    async (limit) => {
      const all = await readAll({ limit: String(limit) });
      expect(all.length).toBe(EVENTS);
      expect(new Set(all.map((event) => event.id)).size).toBe(EVENTS);
      const order = all.map((event) => `${event.timestamp} ${event.id}`);
      expect(order).toEqual(order.toSorted().reverse());
    },
  );

  test("pages stay whole while new events arrive", async () => {
    const { tenantId, key } = await createTenant(api);
    const add = (n: number, timestamp: number) =>
      api.call("POST", "/events", { as: key, json: eventInput({ sessionId: `s-${n}`, timestamp }) });
    for (let n = 0; n < 6; n += 1) await add(n, START_MS + n);
    const first = await list({ limit: "3" }, key);
    await add(6, START_MS + 100);
    const second = await list({ limit: "3", cursor: first.body.nextCursor }, key);
    const sessions = [...first.body.items, ...second.body.items].map((event: Listed) => event.sessionId);
    expect(sessions).toEqual(["s-5", "s-4", "s-3", "s-2", "s-1", "s-0"]);
    expect(tenantId).not.toBe(tenant.tenantId);
  });

  test.each<[string, Record<string, string>, (event: Listed) => boolean]>([
    ["type", { type: "click" }, (event) => event.type === "click"],
    ["product", { productId: "p-3" }, (event) => event.productId === "p-3"],
    ["user", { userId: "u-4" }, (event) => event.userId === "u-4"],
    ["session", { sessionId: "s-2" }, (event) => event.sessionId === "s-2"],
    ["from, included", { from: at(3) }, (event) => event.timestamp >= at(3)],
    ["to, not included", { to: at(3) }, (event) => event.timestamp < at(3)],
    ["another zone", { from: "2026-09-28T02:00:00+02:00" }, (event) => event.timestamp >= at(3)],
    [
      "all together",
      { type: "view", productId: "p-1", sessionId: "s-1", from: at(1), to: at(14) },
      (event) =>
        event.type === "view" &&
        event.productId === "p-1" &&
        event.sessionId === "s-1" &&
        event.timestamp >= at(1) &&
        event.timestamp < at(14),
    ],
    ["nothing", { productId: "absent" }, () => false],
  ])("filter by %s", async (_, query, matches) => {
    const everything = await readAll({ limit: "100" });
    expect(await readAll({ ...query, limit: "4" })).toEqual(everything.filter(matches));
  });

  test("a cursor is bound to its filters and its list", async () => {
    const { nextCursor: cursor } = (await list({ type: "view", limit: "5" })).body;
    expect((await list({ type: "view", limit: "7", cursor })).status).toBe(200);
    expect((await list({ type: "click", cursor })).status).toBe(400);
    expect((await list({ type: "view", productId: "p-1", cursor })).status).toBe(400);
    expect((await list({ cursor })).status).toBe(400);
  });

  test("a foreign tenant's cursor shows nothing but one's own", async () => {
    const { nextCursor: cursor } = (await list({ limit: "5" }, other.key)).body;
    const { body } = await list({ limit: "100", cursor });
    const own = new Set((await readAll({ limit: "100" })).map((event) => event.id));
    expect(body.items.every((event: Listed) => own.has(event.id))).toBe(true);
  });

  test("mangled cursors are a 400", async () => {
    const { nextCursor: cursor } = (await list({ limit: "5" })).body;
    const parts = JSON.parse(Buffer.from(cursor, "base64url").toString());
    const forge = (...values: unknown[]) => Buffer.from(JSON.stringify(values)).toString("base64url");
    for (const bad of [
      "x",
      "%%%",
      cursor.slice(0, -3),
      forge(),
      forge(parts[0]),
      forge(parts[0], parts[1], "not-an-id"),
      forge(parts[0], "not a time", parts[2]),
      forge(parts[0], "+275760-09-13T00:00:00.000Z", parts[2]),
      forge(parts[0], "yesterday", parts[2]),
      forge(parts[0], parts[1], parts[2], "more"),
      forge(parts[0], 1, 2),
      forge(parts[0], { a: 1 }, null),
      "x".repeat(1_001),
    ]) {
      const { status } = await list({ cursor: bad });
      expect(`${bad.slice(0, 60)}: ${status}`).toBe(`${bad.slice(0, 60)}: 400`);
    }
  });

  test.each<[string, Record<string, string>]>([
    ["limit 0", { limit: "0" }],
    ["limit 101", { limit: "101" }],
    ["limit 1.5", { limit: "1.5" }],
    ["no limit", { limit: "" }],
    ["limit ten", { limit: "ten" }],
    ["an unknown filter", { colour: "red" }],
    ["a bad type", { type: "No" }],
    ["NUL", { userId: "a\0b" }],
    ["a day for an instant", { from: "2026-01-01" }],
    ["an impossible instant", { from: "2026-02-30T00:00:00Z" }],
    ["year 0", { from: "0000-01-01T00:00:00Z" }],
    ["a long user", { userId: "x".repeat(201) }],
  ])("refuses %s", async (_, query) => {
    expect((await list(query)).status).toBe(400);
  });
});

describe("GET /events/:id", () => {
  test("is found by its id only in its own tenant", async () => {
    const [event] = (await list({ limit: "1" })).body.items;
    expect((await api.call("GET", `/events/${event.id}`, { as: tenant.key })).body).toEqual(event);
    expect((await api.call("GET", `/events/${event.id}`, { as: other.key })).status).toBe(404);
  });

  test.each([
    "00000000-0000-7000-8000-000000000000",
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "not-a-uuid",
    "%00",
    "%ff",
    "..%2f..%2fetc",
    "'; drop table events; --",
    "x".repeat(3_000),
  ])("%s is a 404", async (id) => {
    expect((await api.call("GET", `/events/${id}`, { as: tenant.key })).status).toBe(404);
  });
});

function at(day: number): string {
  return new Date(START_MS + day * DAY_MS).toISOString();
}
