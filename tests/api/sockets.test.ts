/**
 * False lengths and accidents on the wire, against a server behind a socket. After each: nothing
 * stored, still serving.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import {
  callOver,
  countStored,
  createTenant,
  createTestApi,
  eventInput,
  gzip,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, startServer } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let url: URL;
let call: TestApi["call"];

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  const server = await startServer({ ...api.env, LOG_LEVEL: "error" });
  url = new URL(server.url);
  call = callOver(server.url);
});
afterAll(cleanup);

afterEach(async () => {
  expect(await countStored(api, tenant.tenantId)).toEqual({ events: 0, batches: 0, keys: 0, stored: 0 });
  expect((await call("GET", "/health/live")).status).toBe(200);
});

const EVENT = JSON.stringify(eventInput());
const SETTLE_MS = 50;

/**
 * Writes pieces to a fresh connection, closes our side if asked to, and returns all that comes
 * back.
 */
function talk(pieces: (string | Uint8Array)[], { end = false, waitMs = 500 } = {}): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(Number(url.port), url.hostname);
    let timer = setTimeout(() => socket.destroy(), waitMs);
    socket.on("data", (data) => {
      text += data.toString("latin1");
      // An answer is there; a second one would follow at once.
      clearTimeout(timer);
      timer = setTimeout(() => socket.destroy(), SETTLE_MS);
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(text);
    });
    for (const piece of pieces) socket.write(piece);
    if (end) socket.end();
  });
}

function head(headers: Record<string, string | number>, path = "/events"): string {
  const all = {
    host: url.host,
    authorization: `Bearer ${tenant.key}`,
    "content-type": "application/json",
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return `POST ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`;
}

const statuses = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => Number(match[1]));

test("a body longer than its content-length is cut, and its rest is no request", async () => {
  const text = await talk([head({ "content-length": EVENT.length - 5 }), EVENT]);
  expect(statuses(text)[0]).toBe(400);
  expect(statuses(text).every((status) => status === 400)).toBe(true);
});

test("a body shorter than its content-length is not taken for a whole one", async () => {
  const text = await talk([head({ "content-length": EVENT.length + 50 }), EVENT], { end: true });
  expect(statuses(text).filter((status) => status < 400)).toEqual([]);
});

test("a client that goes away in the middle of a body leaves nothing", async () => {
  const events = JSON.stringify({ events: [eventInput(), eventInput()] });
  await talk([head({ "content-length": events.length }, "/events/bulk"), events.slice(0, -10)], {
    waitMs: 100,
  });
});

test("a declared length beyond the limit is refused before the body comes", async () => {
  const text = await talk([head({ "content-length": 10_000_000 })]);
  expect(statuses(text)).toEqual([413]);
});

test("a length beyond all bounds, a negative one and one that is none are refused", async () => {
  for (const length of ["99999999999999999999", "-1", "1e3", "0x10", "5, 6"]) {
    const text = await talk([head({ "content-length": length }), EVENT]);
    expect(statuses(text).filter((status) => status < 400 || status >= 500)).toEqual([]);
  }
});

test("two contradicting lengths are no second request", async () => {
  const smuggled = `GET /health/live HTTP/1.1\r\nhost: ${url.host}\r\n\r\n`;
  const both = head({ "content-length": 4, "transfer-encoding": "chunked" });
  const text = await talk([both, `0\r\n\r\n${smuggled}`]);
  expect(statuses(text)).not.toContain(200);
});

test("an endless chunked body is stopped at the limit", async () => {
  const chunk = `4000\r\n${" ".repeat(0x4000)}\r\n`;
  const text = await talk([head({ "transfer-encoding": "chunked" }), chunk.repeat(40)], { waitMs: 1_000 });
  expect(statuses(text)).toEqual([413]);
});

test("a chunked gzip bomb is stopped at the limit", async () => {
  const bomb = await gzip("[".repeat(50_000_000));
  const size = `${bomb.length.toString(16)}\r\n`;
  const headers = { "transfer-encoding": "chunked", "content-encoding": "gzip" };
  const text = await talk([head(headers, "/events/bulk"), size, bomb, "\r\n0\r\n\r\n"], { waitMs: 2_000 });
  expect(statuses(text)).toEqual([413]);
});

test("broken chunks store nothing", async () => {
  for (const body of [
    "zz\r\nabc\r\n0\r\n\r\n",
    `ffffffffffffffffff\r\n${EVENT}`,
    `5\r\n${EVENT}\r\n0\r\n\r\n`,
  ]) {
    const text = await talk([head({ "transfer-encoding": "chunked" }), body]);
    expect(statuses(text).filter((status) => status < 400 || status >= 500)).toEqual([]);
  }
});

test("huge headers are refused", async () => {
  const text = await talk([head({ "content-length": EVENT.length, "x-junk": "x".repeat(200_000) }), EVENT]);
  expect(statuses(text).filter((status) => status < 400 || status >= 500)).toEqual([]);
});

test("a whole event in slow pieces is taken, and kept alive connections serve the next", async () => {
  const other = await createTenant(api);
  const request = head({ "content-length": EVENT.length, authorization: `Bearer ${other.key}` }) + EVENT;
  let text = "";
  const socket = connect(Number(url.port), url.hostname);
  socket.on("data", (data) => {
    text += data.toString();
  });
  for (let at = 0; at < request.length; at += 40) {
    socket.write(request.slice(at, at + 40));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await eventually(() => statuses(text).length === 1);
  socket.write(request);
  await eventually(() => statuses(text).length === 2);
  socket.destroy();
  expect(statuses(text)).toEqual([202, 202]);
  expect((await countStored(api, other.tenantId)).events).toBe(2);
});

test.each(["/events", "/events/bulk", "/auth/login"])(
  "a body that trickles in at %s is refused at the deadline, and the connection ends",
  async (path) => {
    const server = await startServer({ ...api.env, LOG_LEVEL: "error", REQUEST_TIMEOUT_MS: "1000" });
    const { port, hostname } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    let text = "";
    const ended = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    socket.on("data", (data) => {
      text += data.toString();
    });
    socket.on("error", () => {});
    socket.write(head({ "content-length": 10_000 }, path));
    const trickle = setInterval(() => socket.write(" "), 100);
    await ended;
    clearInterval(trickle);
    expect(statuses(text)).toEqual([503]);
    expect(text).toContain("took too long");
  },
);
test("a request without a Host, as HTTP/1.0 health checks send it, is routed by its path", async () => {
  for (const path of ["/health/live", "/api/health/live", "/health/live?probe=1"]) {
    const text = await talk([`GET ${path} HTTP/1.0\r\n\r\n`]);
    expect(text).toMatch(/^HTTP\/1\.[01] 200 /);
    expect(text).toContain('{"status":"ok"}');
  }
  expect(await talk(["GET /nowhere HTTP/1.0\r\n\r\n"])).toMatch(/^HTTP\/1\.[01] 404 /);
  expect(await talk(["GET /health/live HTTP/1.1\r\nhost:\r\n\r\n"])).toMatch(/^HTTP\/1\.1 (200|400) /);
});
