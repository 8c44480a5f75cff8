/**
 * Whatever comes in, the answer is a problem that blames the client, and nothing of it is stored.
 * Every case goes to POST /events, POST /events/bulk and POST /auth/register. For false lengths on
 * the wire see sockets.test.ts.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type CallRequest,
  countStored,
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

const NOTHING = { events: 0, batches: 0, keys: 0, stored: 0 };

afterEach(async () => {
  expect(await countStored(api, tenant.tenantId)).toEqual(NOTHING);
  const [users] = await api.sql`select count(*)::int as n from users`;
  expect(users?.n).toBe(0);
});

const JSON_TYPE = { "content-type": "application/json" };
const post = (path: string, request: CallRequest) => api.call("POST", path, { as: tenant.key, ...request });
const deep = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;
const deepList = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

/** Text of a whole event, whose `field` is this raw JSON. */
const eventWith = (field: string, raw: string) =>
  `${JSON.stringify(eventInput({ [field]: null })).replace(`"${field}":null`, `"${field}":${raw}`)}`;

describe.each(["/events", "/events/bulk", "/auth/register"])("POST %s refuses", (path) => {
  test.each<[string, string]>([
    ["nothing", ""],
    ["space", " \n "],
    ["half of a JSON", '{"type":"view","userId":'],
    ["two JSONs", '{"type":"view"}{"type":"view"}'],
    ["single quotes", "{'type':'view'}"],
    ["NaN", '{"type":NaN}'],
    ["a comment", '{"type":"view"/* */}'],
    ["a raw control character", '{"type":"vi\u0000ew"}'],
    ["a byte order mark inside", '{"type":\ufeff"view"}'],
    ["null", "null"],
    ["a number", "42"],
    ["1e400", "1e400"],
    ["a string", '"event"'],
    ["a list", "[]"],
    ["an object nested 100,000 deep", deep(100_000)],
    ["a list nested 100,000 deep", deepList(100_000)],
    ["unclosed brackets", "[".repeat(200_000)],
    ["an unknown key", '{"colour":"red"}'],
    ["__proto__", '{"__proto__":{"type":"view","userId":"u"}}'],
    ["constructor", '{"constructor":{"prototype":{"type":"view"}}}'],
  ])("%s", async (_, body) => {
    const { status } = await post(path, { body, headers: JSON_TYPE });
    expect([400, 413]).toContain(status);
  });

  test.each([
    "text/html",
    "application/xml",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "application/jsonx",
    "",
  ])("media type %p", async (type) => {
    const body = JSON.stringify(path === "/events/bulk" ? { events: [eventInput()] } : eventInput());
    const { status } = await post(path, { body, headers: { "content-type": type } });
    expect(status).toBe(415);
  });

  test("invalid UTF-8", async () => {
    const text = Buffer.from(
      JSON.stringify({ ...eventInput(), email: "a@example.com", password: "12345678" }),
    );
    const body = new Uint8Array([...text.subarray(0, 10), 0xff, 0xfe, 0xc0, 0x80, ...text.subarray(10)]);
    const { status } = await post(path, { body, headers: JSON_TYPE });
    expect(status).toBe(400);
  });

  test("more than it takes", async () => {
    const body = `{"type":"${"x".repeat(5 * 1024 * 1024)}"}`;
    expect((await post(path, { body, headers: JSON_TYPE })).status).toBe(413);
    const stream = new Response(body).body ?? undefined;
    expect((await post(path, { body: stream, headers: JSON_TYPE })).status).toBe(413);
  });
});

/**
 * What is wrong with one event: refused alone, rejected in a bulk request, and reported beside good
 * ones under strict.
 */
const BAD_EVENTS: [string, string][] = [
  ["no type", '{"userId":"u"}'],
  ["an empty type", eventWith("type", '""')],
  ["a type with capitals", eventWith("type", '"View"')],
  ["a type of 65 characters", eventWith("type", `"${"a".repeat(65)}"`)],
  ["a type that is a list", eventWith("type", '["view"]')],
  ["nobody", '{"type":"view","productId":"p"}'],
  ["an empty user", eventWith("userId", '""')],
  ["a user that is null", eventWith("userId", "null")],
  ["a user that is a number", eventWith("userId", "7")],
  ["a user of 201 characters", eventWith("userId", `"${"x".repeat(201)}"`)],
  ["NUL in the user", eventWith("userId", '"a\\u0000b"')],
  ["NUL in the session", eventWith("sessionId", '"\\u0000"')],
  ["NUL in the product", eventWith("productId", '"a\\u0000b"')],
  ["a product with a tab", eventWith("productId", '"a\\tb"')],
  ["a product with outer spaces", eventWith("productId", '" a"')],
  ["a product of 129 characters", eventWith("productId", `"${"x".repeat(129)}"`)],
  ["half a surrogate pair in the product", eventWith("productId", '"\\ud83d"')],
  ["half a surrogate pair in the user", eventWith("userId", '"x\\udc00y"')],
  ["a messageId of 101 characters", eventWith("messageId", `"${"x".repeat(101)}"`)],
  ["NUL in the messageId", eventWith("messageId", '"\\u0000"')],
  ["half a surrogate pair in the messageId", eventWith("messageId", '"\\ud800"')],
  ["NUL in a property", eventWith("properties", '{"a":"x\\u0000"}')],
  ["NUL in a property's name", eventWith("properties", '{"\\u0000":1}')],
  ["NUL deep inside", eventWith("properties", '{"a":[{"b":["\\u0000"]}]}')],
  ["half a surrogate pair in a property", eventWith("properties", '{"a":"\\ud83d"}')],
  ["half a surrogate pair in a context's name", eventWith("context", '{"\\udfff":1}')],
  ["properties that are a list", eventWith("properties", "[1]")],
  ["properties that are null", eventWith("properties", "null")],
  ["properties that are text", eventWith("properties", '"a"')],
  [
    "65 properties",
    eventWith("properties", JSON.stringify(Object.fromEntries(Array.from({ length: 65 }, (_, n) => [n, n])))),
  ],
  ["properties nested 17 deep", eventWith("properties", deep(17))],
  ["properties nested 40,000 deep", eventWith("properties", deep(40_000))],
  ["1e400 in a property", eventWith("properties", '{"a":1e400}')],
  ["-1e400 in the context", eventWith("context", '{"a":[-1e400]}')],
  ["__proto__ beside its fields", eventWith("__proto__", '{"a":1}').replace("{", '{"__proto__":{"a":1},')],
  ["a timestamp in a year", eventWith("timestamp", String(Date.now() + 3.2e10))],
  ["a timestamp in two hours", eventWith("timestamp", `"${new Date(Date.now() + 7.2e6).toISOString()}"`)],
  ["a timestamp of 1e400", eventWith("timestamp", "1e400")],
  ["a timestamp of 9e15", eventWith("timestamp", "9000000000000000")],
  ["a timestamp of -1", eventWith("timestamp", "-1")],
  ["a timestamp of half a millisecond", eventWith("timestamp", "1767225600000.5")],
  ["a timestamp without zone", eventWith("timestamp", '"2026-01-01T00:00:00"')],
  ["a timestamp that is a day", eventWith("timestamp", '"2026-01-01"')],
  ["30 February", eventWith("timestamp", '"2026-02-30T00:00:00Z"')],
  ["year 10000", eventWith("timestamp", '"+010000-01-01T00:00:00Z"')],
];

const sale = (type: string, properties: string) =>
  `{"type":"${type}","userId":"u","productId":"p","properties":${properties}}`;
for (const type of ["purchase", "refund", "adjustment"])
  for (const properties of [
    '{"price":1e400}',
    '{"price":1e308}',
    '{"price":-1e308}',
    '{"price":10000000001}',
    '{"price":-10000000001}',
    '{"price":"9.99"}',
    '{"price":null}',
    '{"price":{}}',
    '{"quantity":0}',
    '{"quantity":-1}',
    '{"quantity":1.5}',
    '{"quantity":1000001}',
    '{"quantity":"1"}',
    '{"quantity":true}',
  ])
    BAD_EVENTS.push([`${type} with ${properties}`, sale(type, properties)]);

describe("an event with", () => {
  test.each(BAD_EVENTS)("%s is refused, alone and in bulk", async (_, body) => {
    expect((await post("/events", { body, headers: JSON_TYPE })).status).toBe(400);
    const bulk = `{"events":[${body},${body}]}`;
    expect((await post("/events/bulk", { body: bulk, headers: JSON_TYPE })).status).toBe(400);
    const mixed = `{"events":[${JSON.stringify(eventInput())},${body}]}`;
    const strict = await post("/events/bulk?strict=true", { body: mixed, headers: JSON_TYPE });
    expect(strict.status).toBe(400);
    expect(strict.body.errors[0].path).toStartWith("events.1");
    const lines = await post("/events/bulk", {
      body: `${body}\n`,
      headers: { "content-type": "application/x-ndjson" },
    });
    expect(lines.status).toBe(400);
  });

  test("33 KB is too large", async () => {
    const json = eventInput({ properties: { text: "x".repeat(33_000) } });
    expect((await post("/events", { json })).status).toBe(413);
    expect((await post("/events/bulk", { json: { events: [json] } })).status).toBe(400);
    const multibyte = eventInput({ properties: { text: "值".repeat(11_500) } });
    expect((await post("/events", { json: multibyte })).status).toBe(413);
  });

  test.each([["not a time"], [1.5], [-1], [{}], [[]], [null], ["9".repeat(40)], [1e308]])(
    "sentAt %p is refused",
    async (sentAt) => {
      expect((await post("/events", { json: { ...eventInput(), sentAt } })).status).toBe(400);
      expect((await post("/events/bulk", { json: { events: [eventInput()], sentAt } })).status).toBe(400);
    },
  );

  test("a sentAt that moves it out of all bounds is refused", async () => {
    for (const [timestamp, sentAt] of [
      [0, 9_007_199_254_740_991],
      [9_007_199_254_740_991, 0],
      [8.64e15, 8.64e15 - 3e15],
    ])
      expect((await post("/events", { json: eventInput({ timestamp, sentAt }) })).status).toBe(400);
  });
});

describe("a bulk request", () => {
  const bulk = (json: unknown) => post("/events/bulk", { json });

  test("of 2,001 events is refused whole", async () => {
    expect((await bulk({ events: Array(2_001).fill({ type: "view", userId: "u" }) })).status).toBe(400);
    const body = `${JSON.stringify(eventInput())}\n`.repeat(2_001);
    const headers = { "content-type": "application/x-ndjson" };
    expect((await post("/events/bulk", { body, headers })).status).toBe(400);
  });

  test.each([
    ["events that are none", { events: {} }],
    ["no events", {}],
    ["an unknown key", { events: [eventInput()], tenantId: "other" }],
    ["a context that is a list", { events: [eventInput()], context: [] }],
    ["a session with NUL", { events: [eventInput()], sessionId: "\0" }],
    ["a session that is a number", { events: [eventInput()], sessionId: 1 }],
    ["a context nested too deep", { events: [eventInput()], context: JSON.parse(deep(17)) }],
  ])("with %s is refused", async (_, json) => {
    expect((await bulk(json)).status).toBe(400);
  });

  test("with a context nested 100,000 deep is refused", async () => {
    const body = `{"events":[${JSON.stringify(eventInput())}],"context":${deep(100_000)}}`;
    expect((await post("/events/bulk", { body, headers: JSON_TYPE })).status).toBe(400);
  });

  test("with a large context and 2,000 events is refused at once", async () => {
    const json = { events: Array(2_000).fill(eventInput()), context: { text: "x".repeat(3_000_000) } };
    const startedAt = performance.now();
    expect((await bulk(json)).status).toBe(400);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });
});

describe("gzip", () => {
  const send = (body: Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    post("/events/bulk", { body, headers: { ...JSON_TYPE, "content-encoding": "gzip", ...headers } });
  const whole = () =>
    gzip(
      JSON.stringify({ events: Array.from({ length: 500 }, (_, n) => eventInput({ sessionId: `s${n}` })) }),
    );

  test("a bomb is stopped at the limit", async () => {
    const bomb = new Uint8Array(Bun.gzipSync(Buffer.alloc(200 * 1024 * 1024, "[")));
    const before = process.memoryUsage.rss();
    const { status } = await send(bomb);
    expect([400, 413]).toContain(status);
    expect(process.memoryUsage.rss() - before).toBeLessThan(120 * 1024 * 1024);
  });

  test("cut off, wherever", async () => {
    const body = await whole();
    for (const length of [0, 1, 10, 40, Math.floor(body.length / 2), body.length - 8, body.length - 1])
      expect((await send(body.slice(0, length))).status).toBe(400);
  });

  test("with a wrong checksum, with a tail, and none at all", async () => {
    const body = await whole();
    const wrong = body.slice();
    wrong[wrong.length - 6] = (wrong.at(-6) ?? 0) ^ 0xff;
    expect((await send(wrong)).status).toBe(400);
    expect((await send(new Uint8Array([...body, 1, 2, 3]))).status).toBe(400);
    expect((await send(new Uint8Array(Buffer.from('{"events":[]}')))).status).toBe(400);
  });

  test.each(["br", "deflate", "gzip, gzip", "zstd", "gzip2"])("encoding %s is a 415", async (encoding) => {
    expect((await send(await whole(), { "content-encoding": encoding })).status).toBe(415);
  });
});

test.each(["gzip", "br", "deflate", "x"])(
  "a JSON body in the encoding %s is a 415, on every route but those of events",
  async (encoding) => {
    const headers = { ...JSON_TYPE, "content-encoding": encoding };
    const body = await gzip(JSON.stringify({ name: "key" }));
    for (const path of ["/api-keys", "/members", "/auth/login", "/auth/refresh"]) {
      const answer = await api.call("POST", path, { as: tenant.key, body, headers });
      expect(answer.status).toBe(415);
      expect(answer.headers.get("accept-encoding")).toBe("identity");
    }
    const plain = { ...JSON_TYPE, "content-encoding": "identity" };
    const made = await api.call("POST", "/api-keys", {
      as: tenant.key,
      body: '{"name":"key"}',
      headers: plain,
    });
    expect(made.status).toBe(201);
  },
);
