/**
 * Clients that come with an old id to a tenant of large notifications, and what they cost while
 * they do not read.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { operatorContext } from "../../src/core/principal.ts";
import type { FeedClient, FeedItem } from "../../src/features/notifications/index.ts";
import { keys } from "../../src/redis/keys.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, onCleanup, startServer } from "../harness.ts";
import { createHandling, emit } from "./stage.ts";

const LARGE = 500;
const TEXT = Array.from({ length: 10_000 }, (_, n) => String.fromCharCode(0x4e00 + ((n * 7_919) % 20_000)));
/** As the change of a product with the longest description: 60 KB. */
const PAYLOAD = { before: { description: TEXT.join("") }, after: { description: TEXT.reverse().join("") } };
const PAGE_BYTES = 256 * 1024;
const ITEM_BYTES = 61_000;

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  const handling = createHandling(api);
  for (let n = 0; n < LARGE; n += 50)
    await emit(
      api,
      tenant,
      Array.from({ length: 50 }, (_, i) => ({ subjectId: String(n + i), payload: PAYLOAD })),
    );
  await emit(api, tenant, [{ subjectId: "small" }]);
  await handling.handleAll();
}, 60_000);
afterAll(cleanup);

interface Taker extends FeedClient {
  pages: (readonly FeedItem[])[];
}

/** A client of the service itself, that takes each page when `drained` lets it. */
function createTaker(drained: () => Promise<void>): Taker {
  const leaving = new AbortController();
  onCleanup(() => leaving.abort());
  const pages: (readonly FeedItem[])[] = [];
  return {
    pages,
    signal: leaving.signal,
    drained,
    deliver: (items) => pages.push(items),
    fail(error) {
      throw error;
    },
  };
}

const follow = (taker: Taker) =>
  api.deps.notifications.follow(operatorContext(tenant.tenantId), { after: 0 }, taker);
const bytesOf = (items: readonly FeedItem[]) =>
  items.reduce((sum, { json }) => sum + Buffer.byteLength(json), 0);

test("are sent pages of so many bytes, the next one when they have taken the one before", async () => {
  const [stalled, reading] = [createTaker(() => new Promise(() => {})), createTaker(async () => {})];
  for (const taker of [stalled, reading]) await follow(taker);
  await eventually(() => reading.pages.flat().length === LARGE + 1);
  expect(reading.pages.flat().map(({ position }) => position)).toEqual(
    Array.from({ length: LARGE + 1 }, (_, n) => n + 1),
  );
  for (const page of reading.pages) expect(bytesOf(page)).toBeLessThanOrEqual(PAGE_BYTES + ITEM_BYTES);
  // Small ones fill a page, too.
  expect(bytesOf(reading.pages[0] ?? [])).toBeGreaterThan(PAGE_BYTES - ITEM_BYTES);
  expect(stalled.pages.length).toBe(1);
});

test("are not read from Redis, which keeps small ones only, and do not open the breaker of the requests", async () => {
  const entries = await api.deps.redis.xrange(keys.notifications(tenant.tenantId), "-", "+");
  expect(entries.map(([id]) => id)).toEqual([`${LARGE + 1}-0`]);
  const takers = Array.from({ length: 15 }, () => createTaker(async () => {}));
  const states = new Set<string>();
  const timer = setInterval(() => states.add(api.deps.redisGuard.state()), 1);
  for (const taker of takers) await follow(taker);
  await eventually(() => takers.every(({ pages }) => pages.flat().length === LARGE + 1), {
    timeoutMs: 30_000,
  });
  clearInterval(timer);
  expect([...states]).toEqual(["closed"]);
}, 60_000);

test("of whom twenty do not read cost the process little, and the next client is served", async () => {
  const server = await startServer(api.env);
  const residentMb = async () =>
    Number(/VmRSS:\s+(\d+)/.exec(await Bun.file(`/proc/${server.pid}/status`).text())?.[1]) / 1024;
  const before = await residentMb();
  const { hostname, port } = new URL(server.url);
  const head = `GET /events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant.key}\r\nLast-Event-ID: 0\r\n\r\n`;
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const socket = connect(Number(port), hostname);
      onCleanup(() => void socket.destroy());
      socket.on("error", () => {});
      socket.write(head);
      await new Promise((resolve) => socket.once("data", resolve));
      socket.pause();
    }),
  );
  const pushed = async () =>
    Number(
      /^footfall_notifications_pushed_total (\d+)$/m.exec(
        await (await fetch(`${server.url}/metrics`)).text(),
      )?.[1],
    );
  // Until they are sent no more.
  let most = 0;
  for (let last = -1, now = await pushed(), same = 0; same < 5; last = now, now = await pushed()) {
    most = Math.max(most, await residentMb());
    same = now === last ? same + 1 : 0;
    await Bun.sleep(200);
  }
  console.log(
    `resident ${before.toFixed(0)} MB before, ${most.toFixed(0)} MB with 20 streams unread after ${await pushed()} of ${20 * LARGE}`,
  );
  expect(await pushed()).toBeLessThan((20 * LARGE) / 2);
  expect(most).toBeLessThan(before + 200);
  expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
}, 60_000);
