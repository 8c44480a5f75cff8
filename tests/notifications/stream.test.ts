/** GET /events/stream over a socket: who is sent what, resuming, limits, and how a stream ends. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { parseConfig } from "../../src/config.ts";
import { operatorContext } from "../../src/core/principal.ts";
import { storeNotifications } from "../../src/features/notifications/repository.ts";
import { type Running, startApi } from "../../src/main.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { keys } from "../../src/redis/keys.ts";
import {
  callOver,
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, freePort, onCleanup, startServer } from "../harness.ts";
import { openStream } from "./sse-client.ts";
import { createHandling, createSeller, emit, type Handling, numbered } from "./stage.ts";

let api: TestApi;
let server: Running;
let handling: Handling;
let url: string;

beforeAll(async () => {
  api = await createTestApi();
  server = await startOver(api.deps);
  ({ url } = server);
  handling = createHandling(api);
});
afterAll(cleanup);

/** An API process's server on these deps, in this process. */
async function startOver(deps: TestApi["deps"], overrides: Record<string, string> = {}): Promise<Running> {
  const config = parseConfig({
    ...api.env,
    PORT: String(freePort()),
    SHUTDOWN_GRACE_MS: "1000",
    ...overrides,
  });
  const running = await startApi(config, deps);
  onCleanup(() => running.stop());
  return running;
}

async function happen(tenant: TestTenant, events: Parameters<typeof emit>[2]): Promise<void> {
  await emit(api, tenant, events);
  await handling.handleAll();
}

const subjects = (prefix: string, from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `${prefix}-${from + n}`);

describe("a stream", () => {
  test("says what it is, and sends what happens from now on", async () => {
    const tenant = await createTenant(api);
    await happen(tenant, numbered("old", 2));
    const client = await openStream(url, tenant.key);
    expect(client.status).toBe(200);
    expect(client.headers.get("content-type")).toBe("text/event-stream");
    expect(client.headers.get("cache-control")).toBe("no-store, no-transform");
    expect(client.headers.get("x-request-id")).toBeTruthy();
    await happen(tenant, [{ topic: "product.lowstock", subjectId: "p-ü\n", sellerId: "s" }]);
    await client.untilEvents(1);
    expect(client.retryMs).toBeGreaterThanOrEqual(1_000);
    expect(client.events).toEqual([
      {
        id: "3",
        event: "product.lowstock",
        data: {
          id: expect.any(String),
          topic: "product.lowstock",
          subjectId: "p-ü\n",
          sellerId: "s",
          createdAt: expect.stringMatching(/Z$/),
          data: { before: { price: 1 }, after: { price: 2 } },
        },
      },
    ]);
  });

  test("is also served under /api, and HEAD opens none", async () => {
    const tenant = await createTenant(api);
    expect((await openStream(url, tenant.key, { path: "/api/events/stream" })).status).toBe(200);
    const open = async () => (await api.deps.metrics.streamsOpen.get()).values[0]?.value;
    const before = await open();
    const head = await fetch(`${url}/events/stream`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${tenant.key}` },
    });
    expect(head.headers.get("content-type")).toBe("text/event-stream");
    expect(await open()).toBe(before);
  });

  test("shows a tenant its own only, a seller its own only, and a filter its topics only", async () => {
    const [tenant, stranger] = [await createTenant(api), await createTenant(api)];
    const seller = await createSeller(api, tenant.tenantId, "s1");
    const idle = await createSeller(api, tenant.tenantId, "s3");
    const clients = {
      all: await openStream(url, tenant.key),
      stranger: await openStream(url, stranger.key),
      seller: await openStream(url, seller),
      idle: await openStream(url, idle),
      acting: await openStream(url, tenant.key, { headers: { "x-seller-id": "s2" } }),
      catalogue: await openStream(url, await createKey(api, tenant.tenantId, ["products:read"])),
      filtered: await openStream(url, tenant.key, {
        path: "/events/stream?topics=product.restored,product.deleted,order.created",
      }),
    };
    await happen(tenant, [
      { subjectId: "1", sellerId: "s1" },
      { subjectId: "2", sellerId: "s2", topic: "product.deleted" },
      { subjectId: "3", sellerId: null, topic: "product.restored" },
      { subjectId: "4", sellerId: "s1", topic: "order.created" },
    ]);
    // Everybody gets the end mark: when it has come, nothing else will.
    await happen(
      tenant,
      ["s1", "s2", "s3"].map((sellerId) => ({ sellerId, subjectId: "end", topic: "product.restored" })),
    );
    await happen(stranger, [{ subjectId: "theirs" }]);
    await eventually(() => {
      for (const client of Object.values(clients)) expect(client.events.length).toBeGreaterThan(0);
      expect(clients.all.events.length).toBe(7);
    });
    const seen = Object.fromEntries(
      Object.entries(clients).map(([name, client]) => [
        name,
        client
          .subjects()
          .filter((one) => one !== "end")
          .sort(),
      ]),
    );
    expect(seen).toEqual({
      all: ["1", "2", "3", "4"],
      stranger: ["theirs"],
      seller: ["1"],
      idle: [],
      acting: ["2"],
      // Events of orders are not for readers of products only, nor for sellers.
      catalogue: ["1", "2", "3"],
      filtered: ["2", "3", "4"],
    });
  });

  test("is refused without a credential, to other roles, and for input that is none", async () => {
    const tenant = await createTenant(api);
    const call = callOver(url);
    const { token } = await createPerson(api, tenant.tenantId, "customer");
    const publishable = await createKey(api, tenant.tenantId, ["events:write"]);
    expect((await call("GET", "/events/stream")).status).toBe(401);
    for (const as of [token, publishable])
      expect((await call("GET", "/events/stream", { as })).status).toBe(403);
    for (const query of ["topics=x", "topics=", "lastEventId=-1", "lastEventId=x", "after=1", "topics=a%00"])
      expect((await call("GET", `/events/stream?${query}`, { as: tenant.key })).status).toBe(400);
    const headers = { "last-event-id": "1-0" };
    expect((await call("GET", "/events/stream", { as: tenant.key, headers })).status).toBe(400);
  });
});

describe("resuming", () => {
  for (const wiped of [false, true])
    test(`${wiped ? "after a wipe of Redis " : ""}brings exactly what was missed`, async () => {
      const tenant = await createTenant(api);
      const first = await openStream(url, tenant.key);
      await happen(tenant, numbered("seen", 5));
      await first.untilEvents(5);
      first.close();
      await happen(tenant, numbered("missed", 700));
      if (wiped) await api.deps.redis.flushall();
      const second = await openStream(url, tenant.key, {
        headers: { "last-event-id": first.lastId() ?? "" },
      });
      await second.untilEvents(700);
      await happen(tenant, numbered("live", 3));
      await second.untilEvents(703);
      expect(second.subjects()).toEqual([...subjects("missed", 0, 700), ...subjects("live", 0, 3)]);
      expect(second.events.map(({ id }) => Number(id))).toEqual(Array.from({ length: 703 }, (_, n) => n + 6));
    });

  test("goes beyond what the stream in Redis holds, and over a hole in it", async () => {
    const tenant = await createTenant(api);
    await happen(tenant, numbered("a", 1_600));
    const key = keys.notifications(tenant.tenantId);
    expect(await api.deps.redis.xlen(key)).toBeLessThan(1_600);
    await api.deps.redis.xdel(key, "1300-0", "1301-0");
    const client = await openStream(url, tenant.key, { path: "/events/stream?lastEventId=0" });
    await client.untilEvents(1_600);
    expect(client.subjects()).toEqual(subjects("a", 0, 1_600));
  });

  test("while events go on happening misses none and doubles none, on whichever process", async () => {
    const tenant = await createTenant(api);
    const otherDeps = createTestDeps(api.config);
    await waitUntilReady(otherDeps.redis, 5_000);
    const urls = [url, (await startOver(otherDeps)).url];
    const received: unknown[] = [];
    let done = false;
    const writer = (async () => {
      for (let n = 0; n < 60; n += 1) await happen(tenant, numbered(`e${n}`, 10));
      done = true;
    })();
    let last = "0";
    for (let turn = 0; !done || received.length < 600; turn += 1) {
      const client = await openStream(urls[turn % 2] ?? url, tenant.key, {
        headers: { "last-event-id": last },
      });
      await client.untilEvents(1);
      client.close();
      received.push(...client.subjects());
      last = client.lastId() ?? last;
      await eventually(() => client.ended, { intervalMs: 1 });
    }
    await writer;
    expect(received).toEqual(Array.from({ length: 60 }, (_, n) => subjects(`e${n}`, 0, 10)).flat());
  });

  test("from an id that was never given begins now", async () => {
    const tenant = await createTenant(api);
    await happen(tenant, numbered("old", 2));
    const client = await openStream(url, tenant.key, { headers: { "last-event-id": "999999999" } });
    await happen(tenant, numbered("new", 1));
    await client.untilEvents(1);
    expect(client.subjects()).toEqual(["new-0"]);
  });
});

describe("without its helpers a stream goes on", () => {
  test("when nothing was pushed", async () => {
    const tenant = await createTenant(api);
    const client = await openStream(url, tenant.key);
    await emit(api, tenant, numbered("unpublished", 3));
    const refs = await api.sql<{ tenantId: string; id: string }[]>`
      select tenant_id as "tenantId", id from outbox where tenant_id = ${tenant.tenantId}`;
    // As by a worker that dies between its commit and the push.
    await storeNotifications(api.deps.db.write, refs);
    await client.untilEvents(3);
  });

  test("while Redis is away, and when it is back", async () => {
    const tenant = await createTenant(api);
    const before = await openStream(url, tenant.key);
    await emit(api, tenant, numbered("e", 4));
    const refs = await api.sql<{ tenantId: string; id: string }[]>`
      select tenant_id as "tenantId", id from outbox where tenant_id = ${tenant.tenantId} order by id`;
    await api.redis.kill();
    const during = await openStream(url, tenant.key);
    expect(during.status).toBe(200);
    await api.deps.notifications.domainHandler.handle(refs.slice(0, 2));
    for (const client of [before, during]) await client.untilEvents(2);
    await api.redis.start();
    await waitUntilReady(api.deps.redis, 5_000);
    await api.deps.notifications.domainHandler.handle(refs.slice(2));
    for (const client of [before, during]) {
      await client.untilEvents(4);
      expect(client.subjects()).toEqual(subjects("e", 0, 4));
    }
  });
});

describe("limits", () => {
  test("a tenant has so many streams, a process so many; a place is free again when a client has left", async () => {
    const limits = { SSE_MAX_CONNECTIONS: "3", SSE_MAX_CONNECTIONS_PER_TENANT: "2" };
    const small = await startOver(createTestDeps(api.config), limits);
    const [tenant, other] = [await createTenant(api), await createTenant(api)];
    const call = callOver(small.url);
    const first = await openStream(small.url, tenant.key);
    await openStream(small.url, tenant.key);
    const refused = await call("GET", "/events/stream", { as: tenant.key });
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "5"]);
    expect((await openStream(small.url, other.key)).status).toBe(200);
    expect((await call("GET", "/events/stream", { as: other.key })).status).toBe(503);
    first.close();
    await eventually(async () => expect((await openStream(small.url, tenant.key)).status).toBe(200));
  });

  test("a client that does not read is cut off, and the others are not held up", async () => {
    const tenant = await createTenant(api);
    const { hostname, port } = new URL(url);
    const stalled = connect(Number(port), hostname);
    onCleanup(() => void stalled.destroy());
    stalled.on("error", () => {});
    stalled.write(`GET /events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant.key}\r\n\r\n`);
    await new Promise((resolve) => stalled.once("data", resolve));
    stalled.pause();
    const reader = await openStream(url, tenant.key);
    const slow = async () =>
      (await api.deps.metrics.streamsClosed.get()).values.find(({ labels }) => labels.reason === "slow")
        ?.value ?? 0;
    const before = await slow();
    const payload = { text: "x".repeat(60_000) };
    let sent = 0;
    for (; sent < 400 && (await slow()) === before; sent += 20)
      await happen(
        tenant,
        Array.from({ length: 20 }, () => ({ payload })),
      );
    expect(await slow()).toBe(before + 1);
    await reader.untilEvents(sent);
    expect(reader.ended).toBe(false);
    // It still reads nothing, and its socket must go all the same.
    const isOpen = async () =>
      (await Bun.file("/proc/net/tcp").text())
        .split("\n")
        .some((line) => line.includes(`:${hex(port)} 0100007F:${hex(stalled.localPort)} 01 `));
    expect(await isOpen()).toBe(true);
    await eventually(async () => !(await isOpen()), { timeoutMs: 20_000 });
  });
});

describe("a stream ends", () => {
  const endsOf = async (reason: string) =>
    (await api.deps.metrics.streamsClosed.get()).values.find(({ labels }) => labels.reason === reason)
      ?.value ?? 0;

  test("when its key is revoked, or the member's role changes, within a minute", async () => {
    const tenant = await createTenant(api);
    const key = await createKey(api, tenant.tenantId, ["products:read"]);
    const seller = await createSeller(api, tenant.tenantId, "s1");
    const clients = [await openStream(url, key), await openStream(url, seller)];
    const staying = await openStream(url, tenant.key);
    const [row] =
      await api.sql`select id from api_keys where tenant_id = ${tenant.tenantId} and scopes = '{products:read}'`;
    await api.deps.apiKeys.revokeApiKey(operatorContext(tenant.tenantId), row?.id);
    await api.sql`update memberships set seller_id = 's2' where tenant_id = ${tenant.tenantId}`;
    await eventually(() => clients.every(({ ended }) => ended), { timeoutMs: 60_000, intervalMs: 500 });
    expect(staying.ended).toBe(false);
    expect(await endsOf("unauthorized")).toBeGreaterThanOrEqual(2);
    await eventually(() => expect(staying.comments, "heartbeats").toBeGreaterThan(0), { timeoutMs: 20_000 });
  }, 90_000);

  test("when the process stops, which it does at once, with exit code 0", async () => {
    const tenant = await createTenant(api);
    const child = await startServer(api.env);
    const clients = await Promise.all(Array.from({ length: 20 }, () => openStream(child.url, tenant.key)));
    const startedAt = performance.now();
    expect(await child.stop()).toBe(0);
    expect(clients.every(({ ended }) => ended)).toBe(true);
    // Far below the grace of 10 s that running requests have.
    expect(performance.now() - startedAt).toBeLessThan(8_000);
  });

  test("without a trace of its client: no timer, no feed, no subscription", async () => {
    const deps = createTestDeps(api.config);
    const own = await startOver(deps);
    const tenant = await createTenant(api);
    const clients = [await openStream(own.url, tenant.key), await openStream(own.url, tenant.key)];
    const subscribers = async () => {
      const channel = keys.notificationNudge(tenant.tenantId);
      return ((await api.deps.redis.pubsub("NUMSUB", channel)) as unknown[])[1];
    };
    await eventually(async () => expect(Number(await subscribers())).toBe(1));
    for (const client of clients) client.close();
    await eventually(async () => {
      expect((await deps.metrics.streamsOpen.get()).values[0]?.value).toBe(0);
      expect(Number(await subscribers())).toBe(0);
    });
  });
});

/** A port as /proc/net/tcp writes it. */
function hex(port: string | number | undefined): string {
  return Number(port).toString(16).toUpperCase().padStart(4, "0");
}
