/**
 * A client that leaves in the middle of its body is not our failure: no error is logged, nothing is
 * stored.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { countStored, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, startServer } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let server: Awaited<ReturnType<typeof startServer>>;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  server = await startServer({ ...api.env, LOG_LEVEL: "debug" });
});
afterAll(cleanup);

/**
 * Sends a head and the beginning of a body, and closes the connection when the server has read the
 * head.
 */
function sendAndLeave(path: string, headers: Record<string, string>): Promise<void> {
  const { hostname, port } = new URL(server.url);
  const all = { host: hostname, authorization: `Bearer ${tenant.key}`, ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(`POST ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n{"email":"a`, () =>
        setTimeout(() => socket.destroy(), 50),
      );
    });
    socket.on("close", () => resolve());
    socket.on("error", () => {});
  });
}

const json = { "content-type": "application/json" };

test.each<[string, string, Record<string, string>]>([
  ["a single event", "/events", { ...json, "content-length": "500" }],
  ["a single event in chunks", "/events", { ...json, "transfer-encoding": "chunked" }],
  ["a bulk of events", "/events/bulk", { ...json, "content-length": "500" }],
  ["gzip", "/events/bulk", { ...json, "content-encoding": "gzip", "content-length": "500" }],
  ["JSON of another route", "/auth/login", { ...json, "content-length": "500" }],
  ["JSON of another route in chunks", "/products", { ...json, "transfer-encoding": "chunked" }],
  ["an import of products", "/products/import", { "content-type": "text/csv", "content-length": "500" }],
])("%s: a client that leaves is not logged as an error", async (_, path, headers) => {
  const requestId = `left-${Bun.randomUUIDv7()}`;
  await sendAndLeave(path, { ...headers, "x-request-id": requestId });
  const ours = () =>
    server
      .stdout()
      .split("\n")
      .filter((line) => line.includes(requestId))
      .map((line) => JSON.parse(line));
  await eventually(() => ours().some(({ msg }) => msg === "request"));
  expect(ours().map(({ level, msg, status }) => ({ level, msg, status }))).toEqual([
    { level: "debug", msg: "request", status: 400 },
  ]);
  expect(await countStored(api, tenant.tenantId)).toEqual({ events: 0, batches: 0, keys: 0, stored: 0 });
});
