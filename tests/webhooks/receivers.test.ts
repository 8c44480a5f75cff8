/** Receivers that misbehave: redirects, endless answers, rubbish. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, onCleanup } from "../harness.ts";
import { createWebhook, deliverAll, deliveriesOf, enqueue, startReceiver } from "./stage.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi({ WEBHOOK_ALLOW_PRIVATE: "true" });
});
beforeEach(async () => {
  await api.sql`delete from webhook_endpoints`;
  tenant = await createTenant(api);
});
afterAll(cleanup);

test("no redirect is followed, no cookie kept", async () => {
  const receiver = startReceiver();
  const elsewhere = startReceiver();
  const webhook = await createWebhook(api, tenant, receiver.url);
  for (const status of [301, 302, 303, 307, 308]) {
    const headers = { location: elsewhere.url, "set-cookie": "a=b" };
    receiver.reply = () => new Response(null, { status, headers });
    await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({
      status: "pending",
      lastStatus: status,
      lastError: "redirects are not followed",
    });
  }
  expect([elsewhere.received.length, receiver.received.length]).toEqual([0, 5]);
  expect(receiver.received.some(({ headers }) => "cookie" in headers)).toBe(false);
});

/** A server of raw bytes, and how many of them it got rid of. */
function startRaw(talk: (socket: Socket, count: (bytes: number) => void) => void) {
  const state = { sent: 0, open: 0 };
  const server = createServer((socket) => {
    state.open += 1;
    socket.on("error", () => {});
    socket.on("close", () => {
      state.open -= 1;
    });
    socket.once("data", () =>
      talk(socket, (bytes) => {
        state.sent += bytes;
      }),
    );
  }).listen(0, "127.0.0.1");
  onCleanup(() => void server.close());
  return { state, url: () => `http://127.0.0.1:${(server.address() as { port: number }).port}/` };
}

function pour(socket: Socket, head: string, chunk: Buffer, count: (bytes: number) => void): void {
  socket.write(head);
  const more = () => {
    if (socket.destroyed) return;
    count(chunk.length);
    socket.write(chunk, () => setImmediate(more));
  };
  more();
}

test("with an endless body is heard to the end of its headers, with endless headers not even that", async () => {
  const chunk = Buffer.alloc(64 * 1024, "a");
  const body = startRaw((socket, count) =>
    pour(socket, "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", chunk, count),
  );
  const headers = startRaw((socket, count) => pour(socket, "HTTP/1.1 200 OK\r\nx-a: ", chunk, count));
  const good = await createWebhook(api, tenant, body.url());
  const bad = await createWebhook(api, tenant, headers.url());
  await enqueue(api, tenant.tenantId);
  expect(await deliverAll(api)).toEqual([2]);
  expect((await deliveriesOf(api, tenant, good))[0]).toMatchObject({
    status: "succeeded",
    lastStatus: 200,
  });
  expect((await deliveriesOf(api, tenant, bad))[0]).toMatchObject({
    status: "pending",
    lastStatus: null,
    lastError: "HPE_HEADER_OVERFLOW",
  });
  await eventually(() => expect([body.state.open, headers.state.open]).toEqual([0, 0]));
  expect(Math.max(body.state.sent, headers.state.sent)).toBeLessThan(8 * 1024 * 1024);
});

test("and answers with rubbish, an upgrade or nothing at all has failed", async () => {
  const talks = ["rubbish\r\n\r\n", "HTTP/1.1 101 Now\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", ""];
  for (const text of talks) {
    const raw = startRaw((socket) => void socket.end(text));
    const webhook = await createWebhook(api, tenant, raw.url());
    await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    const [delivery] = await deliveriesOf(api, tenant, webhook);
    expect(delivery).toMatchObject({ status: "pending", attempts: 1, lastStatus: null });
    expect(delivery.lastError).toBeString();
    await api.call("DELETE", `/webhooks/${webhook.id}`, { as: tenant.key });
  }
});
