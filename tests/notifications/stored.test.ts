/**
 * Domain event -> outbox -> stream -> notification, once each; and reading the stored ones back.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Scope } from "../../src/core/principal.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { DOMAIN_STREAM } from "../../src/streams/topology.ts";
import { createHousekeeping } from "../../worker/jobs/housekeeping.ts";
import { createRelay } from "../../worker/jobs/relay.ts";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";
import { createHandling, createSeller, emit, type Handling, numbered } from "./stage.ts";

let api: TestApi;
let handling: Handling;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  handling = createHandling(api);
  tenant = await createTenant(api);
});
afterAll(cleanup);

const stored = ({ tenantId }: TestTenant) =>
  api.sql`select id, position::int as position, subject_id from notifications
    where tenant_id = ${tenantId} order by position`;

const undone = ({ tenantId }: TestTenant) =>
  api.sql`select id, undone, announcements from outbox where tenant_id = ${tenantId} and undone <> '{}'`;

/**
 * Makes what was announced, or has failed, due again. Not at `now()`, which the column may round
 * up.
 */
async function makeDue(): Promise<void> {
  await api.sql`update outbox set announce_at = now() - interval '1 second' where undone <> '{}'`;
  await api.sql`update outbox_failures set retry_at = now() - interval '1 second'`;
}

describe("a domain event", () => {
  test("becomes one notification, however often it is announced and delivered", async () => {
    const own = await createTenant(api);
    await emit(api, own, [{ consumers: ["notifications", "webhooks"] }, { topic: "product.created" }]);
    await handling.handleAll();
    expect((await stored(own)).length).toBe(2);
    // The webhooks have not handled theirs, so it is announced for both again.
    for (let round = 0; round < 2; round += 1) {
      await makeDue();
      expect(await handling.handleAll()).toBeGreaterThan(0);
    }
    expect((await stored(own)).map(({ position }) => position)).toEqual([1, 2]);
    expect((await undone(own)).map((row) => row.undone)).toEqual([["webhooks"]]);
    const [row] =
      await api.sql`select jsonb_typeof(payload) as type from notifications where tenant_id = ${own.tenantId}`;
    expect(row?.type).toBe("object");
  });

  test("rolled back with its change was never there", async () => {
    const own = await createTenant(api);
    const failing = api.deps.db.transaction(async (tx) => {
      await tx`insert into outbox (tenant_id, id, topic, subject_id, payload, undone, created_at, announce_at)
        values (${own.tenantId}, gen_random_uuid(), 'product.created', 'p', '{}', '{notifications}', now(), now())`;
      throw new Error("the change fails");
    });
    expect(failing).rejects.toThrow("the change fails");
    await failing.catch(() => {});
    await handling.handleAll();
    expect(await stored(own)).toBeEmpty();
  });

  test("is announced once by two relays at the same time, and not again before it is due", async () => {
    const own = await createTenant(api);
    await api.sql`update outbox set announce_at = now() + interval '1 hour' where undone <> '{}'`;
    await emit(api, own, numbered("p", 1_500));
    const other = createTestDeps(api.config);
    await waitUntilReady(other.redis, 5_000);
    const relays = [createRelay(api.deps), createRelay(other)];
    const before = await api.deps.redis.xlen(DOMAIN_STREAM.key);
    for (let round = 0; round < 4; round += 1) await Promise.all(relays.map((relay) => relay.runOnce()));
    // A message names a tenant: one for each claim.
    expect((await api.deps.redis.xlen(DOMAIN_STREAM.key)) - before).toBeLessThanOrEqual(4);
    expect((await undone(own)).every(({ announcements }) => announcements === 1)).toBe(true);
    await handling.handleAll();
    expect((await stored(own)).length).toBe(1_500);
  });

  test("waits longer after each announcement, ten minutes at the most", async () => {
    const own = await createTenant(api);
    await emit(api, own, [{ consumers: ["webhooks"] }]);
    const waits: number[] = [];
    for (let round = 0; round < 9; round += 1) {
      await createRelay(api.deps).runOnce();
      const [row] =
        await api.sql`select extract(epoch from announce_at - now())::float8 as seconds from outbox
        where tenant_id = ${own.tenantId}`;
      waits.push(Math.round(row?.seconds / 10) * 10);
      await makeDue();
    }
    expect(waits).toEqual([10, 20, 40, 80, 160, 320, 600, 600, 600]);
  });

  test("is found again when the stream that announced it was wiped", async () => {
    const own = await createTenant(api);
    await emit(api, own, numbered("p", 3));
    await createRelay(api.deps).runOnce();
    await api.deps.redis.flushall();
    await handling.handleAll();
    expect(await stored(own)).toBeEmpty();
    await makeDue();
    await handling.handleAll();
    expect((await stored(own)).length).toBe(3);
  });

  test("that can't be stored stops no other, and is left undone", async () => {
    const own = await createTenant(api);
    await emit(api, own, numbered("p", 8));
    await api.sql`update outbox set topic = 'poison' where tenant_id = ${own.tenantId} and subject_id = 'p-3'`;
    await api.sql`alter table notifications add constraint no_poison check (topic <> 'poison') not valid`;
    await handling.handleAll();
    await api.sql`alter table notifications drop constraint no_poison`;
    const rows = await stored(own);
    expect(rows.map((row) => row.subject_id).sort()).toEqual([0, 1, 2, 4, 5, 6, 7].map((n) => `p-${n}`));
    expect(rows.map(({ position }) => position)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect((await undone(own)).length).toBe(1);
    await makeDue();
    await handling.handleAll();
    expect((await stored(own)).length).toBe(8);
  });

  test("of many tenants is stored by workers in parallel without a hole or a deadlock", async () => {
    const tenants = await Promise.all([1, 2, 3].map(() => createTenant(api)));
    for (let round = 0; round < 10; round += 1)
      for (const own of tenants) await emit(api, own, numbered(`r${round}`, 20));
    const refs = await api.sql<{ tenantId: string; id: string }[]>`
      select tenant_id as "tenantId", id from outbox where tenant_id = any(${api.sql.array(tenants.map((one) => one.tenantId))}::uuid[])
      order by md5(id::text)`;
    const workers = [api.deps, createTestDeps(api.config), createTestDeps(api.config)];
    // Every batch goes to two of them.
    const batches = Array.from({ length: 20 }, (_, n) => refs.slice(n * 30, n * 30 + 30));
    const results = await Promise.all(
      batches.flatMap((batch, n) => [
        workers[n % 3]?.notifications.domainHandler.handle(batch),
        workers[(n + 1) % 3]?.notifications.domainHandler.handle(batch),
      ]),
    );
    expect(results.reduce((sum = 0, stored = 0) => sum + stored, 0)).toBe(600);
    for (const own of tenants)
      expect((await stored(own)).map(({ position }) => position)).toEqual(
        Array.from({ length: 200 }, (_, n) => n + 1),
      );
  });
});

describe("GET /notifications", () => {
  test("pages newest first, each once, for every page size", async () => {
    await emit(api, tenant, numbered("p", 7));
    await handling.handleAll();
    const seen: Record<number, string[]> = {};
    for (const limit of [1, 3, 100]) {
      const ids: string[] = [];
      let cursor: string | null = "";
      while (cursor !== null) {
        const path: string = `/notifications?limit=${limit}${cursor && `&cursor=${cursor}`}`;
        const { status, body } = await api.call("GET", path, { as: tenant.key });
        expect(status).toBe(200);
        for (const { id } of body.items) ids.push(id);
        cursor = body.nextCursor;
      }
      seen[limit] = ids;
    }
    expect(seen[1]?.length).toBe(7);
    expect(seen[1]).toEqual(seen[1]?.toSorted().toReversed() ?? []);
    expect(seen[3]).toEqual(seen[1] ?? []);
    expect(seen[100]).toEqual(seen[1] ?? []);
  });

  test("shows what happened", async () => {
    const { body } = await api.call("GET", "/notifications?limit=1", { as: tenant.key });
    expect(body.items).toEqual([
      {
        id: expect.any(String),
        topic: "product.updated",
        subjectId: expect.stringMatching(/^p-/),
        sellerId: null,
        createdAt: expect.stringMatching(/Z$/),
        readAt: null,
        data: { before: { price: 1 }, after: { price: 2 } },
      },
    ]);
  });

  test("filters by topic and by unread; a cursor belongs to its filters", async () => {
    const own = await createTenant(api);
    await emit(api, own, [{}, { topic: "product.lowstock" }, { topic: "order.created" }]);
    await handling.handleAll();
    const list = async (query: string) =>
      (await api.call("GET", `/notifications?${query}`, { as: own.key })).body;
    const topics = async (query: string) =>
      (await list(query)).items.map(({ topic }: { topic: string }) => topic).sort();
    expect(await topics("topics=product.lowstock,order.created")).toEqual([
      "order.created",
      "product.lowstock",
    ]);
    await emit(api, own, [{ topic: "order.created" }, {}, { topic: "product.lowstock" }]);
    await handling.handleAll();
    const two = "topics=product.lowstock,order.created";
    const ids = (items: { id: string }[]) => items.map(({ id }) => id);
    const whole = ids((await list(two)).items);
    expect(whole).toEqual(whole.toSorted().toReversed());
    const paged: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const page = await list(`${two}&limit=1${cursor && `&cursor=${cursor}`}`);
      paged.push(...ids(page.items));
      cursor = page.nextCursor;
    }
    expect(paged).toEqual(whole);
    expect(whole.length).toBe(4);
    const { items, nextCursor } = await list("topics=order.created,product.lowstock&limit=1");
    await api.call("POST", `/notifications/${items[0].id}/read`, { as: own.key });
    expect((await topics("unread=true")).length).toBe(5);
    expect((await topics("unread=false")).length).toBe(6);
    expect((await topics(`${two}&unread=true`)).length).toBe(3);
    for (const query of [
      `cursor=${nextCursor}`,
      `topics=order.created&cursor=${nextCursor}`,
      "topics=order.made",
      "topics=",
      "unread=yes",
      "since=1",
    ])
      expect((await api.call("GET", `/notifications?${query}`, { as: own.key })).status).toBe(400);
  });
});

describe("POST /notifications/:id/read", () => {
  test("is idempotent and keeps the first moment", async () => {
    const { body } = await api.call("GET", "/notifications?limit=1", { as: tenant.key });
    const [{ id }] = body.items;
    const read = () => api.call("POST", `/notifications/${id}/read`, { as: tenant.key });
    const readAt = async () =>
      (await api.call("GET", "/notifications?limit=1", { as: tenant.key })).body.items[0].readAt;
    expect((await read()).status).toBe(204);
    const first = await readAt();
    expect(first).toEqual(expect.any(String));
    expect((await read()).status).toBe(204);
    expect(await readAt()).toBe(first);
  });

  test("is a 404 for another tenant's, an absent one and no id", async () => {
    const stranger = await createTenant(api);
    const { body } = await api.call("GET", "/notifications?limit=1", { as: tenant.key });
    for (const id of [body.items[0].id, "00000000-0000-7000-8000-00000000dead", "x", "%00"])
      expect((await api.call("POST", `/notifications/${id}/read`, { as: stranger.key })).status).toBe(404);
  });
});

describe("a seller", () => {
  test("sees and marks its own only", async () => {
    const own = await createTenant(api);
    await emit(api, own, [{ sellerId: "s1" }, { sellerId: "s2" }, { sellerId: null }]);
    await handling.handleAll();
    const s1 = await createSeller(api, own.tenantId, "s1");
    const listFor = async (as: string, headers = {}) =>
      (await api.call("GET", "/notifications", { as, headers })).body.items;
    expect((await listFor(s1)).map(({ sellerId }: { sellerId: string }) => sellerId)).toEqual(["s1"]);
    expect((await listFor(own.key)).length).toBe(3);
    expect((await listFor(own.key, { "x-seller-id": "s2" })).length).toBe(1);
    const [other] = await listFor(own.key, { "x-seller-id": "s2" });
    expect((await api.call("POST", `/notifications/${other.id}/read`, { as: s1 })).status).toBe(404);
    expect(
      (await api.call("GET", "/notifications", { as: s1, headers: { "x-seller-id": "s2" } })).status,
    ).toBe(403);
  });

  test("is, with admins and keys for products, who may; analysts and customers may not", async () => {
    const own = await createTenant(api);
    for (const role of ["analyst", "customer"] as const) {
      const { token } = await createPerson(api, own.tenantId, role);
      expect((await api.call("GET", "/notifications", { as: token })).status).toBe(403);
    }
    const reader = await createKey(api, own.tenantId, ["products:read"]);
    expect((await api.call("GET", "/notifications", { as: reader })).status).toBe(200);
    const marking = await api.call("POST", "/notifications/x/read", { as: reader });
    expect(marking.status).toBe(403);
  });
});

test("what is told of orders is for admins and for keys that read orders", async () => {
  const own = await createTenant(api);
  const topics = ["product.updated", "order.created", "order.cancelled"] as const;
  await emit(
    api,
    own,
    topics.map((topic) => ({ topic, sellerId: "s1" })),
  );
  await handling.handleAll();
  const keyWith = (...scopes: Scope[]) => createKey(api, own.tenantId, scopes);
  const { token: admin } = await createPerson(api, own.tenantId, "admin");
  const seesAll = { key: own.key, admin, reader: await keyWith("products:read", "orders:read") };
  const seesProducts = {
    seller: await createSeller(api, own.tenantId, "s1"),
    reader: await keyWith("products:read"),
    writer: await keyWith("products:read", "products:write"),
  };
  const listFor = async (as: string, query = "") =>
    (await api.call("GET", `/notifications?${query}`, { as })).body.items.map(
      ({ topic }: { topic: string }) => topic,
    );
  for (const as of Object.values(seesAll)) {
    expect((await listFor(as)).toSorted()).toEqual(topics.toSorted());
    expect(await listFor(as, "topics=order.created")).toEqual(["order.created"]);
  }
  for (const as of Object.values(seesProducts)) {
    expect(await listFor(as)).toEqual(["product.updated"]);
    expect(await listFor(as, "topics=order.created")).toEqual([]);
  }
  const { body } = await api.call("GET", "/notifications?topics=order.created", { as: admin });
  const path = `/notifications/${body.items[0].id}/read`;
  for (const as of [seesProducts.seller, seesProducts.writer])
    expect((await api.call("POST", path, { as })).status).toBe(404);
  expect((await api.call("POST", path, { as: admin })).status).toBe(204);
});

test("housekeeping prunes handled events after an hour and notifications after their retention", async () => {
  const own = await createTenant(api);
  await emit(api, own, [{}, {}, { consumers: ["webhooks"] }]);
  await handling.handleAll();
  await api.sql`update outbox set created_at = now() - interval '2 hours', announce_at = now() + interval '1 hour'
    where tenant_id = ${own.tenantId}`;
  await api.sql`update notifications set stored_at = now() - interval '91 days'
    where tenant_id = ${own.tenantId} and position = 1`;
  await createHousekeeping(api.deps, "test").runOnce();
  const [left] =
    await api.sql`select (select count(*)::int from outbox where tenant_id = ${own.tenantId}) as events,
    (select count(*)::int from notifications where tenant_id = ${own.tenantId}) as notifications`;
  expect(left).toEqual({ events: 1, notifications: 1 });
});

test("what a full Redis refuses is due again at once, not after minutes", async () => {
  const own = await createTenant(api);
  await emit(api, own, [{}]);
  const relay = createRelay(api.deps);
  await api.deps.redis.config("SET", "maxmemory", "1");
  try {
    for (let round = 0; round < 5; round += 1) {
      const failure = await relay.runOnce().then(
        () => "",
        (error) => String(error),
      );
      expect(failure).toContain("OOM");
    }
  } finally {
    await api.deps.redis.config("SET", "maxmemory", "0");
  }
  // Soon, but not in this very millisecond: the column may round up.
  await eventually(async () => {
    await handling.handleAll();
    expect((await stored(own)).length).toBe(1);
  });
});

test("everything but the push works while Redis is away", async () => {
  const own = await createTenant(api);
  await emit(api, own, [{}]);
  const [ref] = await api.sql<{ tenantId: string; id: string }[]>`
    select tenant_id as "tenantId", id from outbox where tenant_id = ${own.tenantId}`;
  await api.redis.stop();
  try {
    // Nothing is claimed that could not be announced.
    expect(createRelay(api.deps).runOnce()).rejects.toThrow();
    await createRelay(api.deps)
      .runOnce()
      .catch(() => {});
    expect((await undone(own)).map(({ announcements }) => announcements)).toEqual([0]);
    expect(await api.deps.notifications.domainHandler.handle(ref ? [ref] : [])).toBe(1);
    const { status, body } = await api.call("GET", "/notifications", { as: own.key });
    expect([status, body.items.length]).toEqual([200, 1]);
  } finally {
    await api.redis.start();
  }
});

test("the metrics tell how many events wait, and for how long", async () => {
  const own = await createTenant(api);
  await emit(api, own, [{ consumers: ["webhooks"] }]);
  await api.sql`update outbox set created_at = now() - interval '1 day' where tenant_id = ${own.tenantId}`;
  const text = await createTestDeps(api.config).metrics.registry.metrics();
  const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
  expect(value("footfall_outbox_undone_events")).toBeGreaterThan(0);
  expect(value("footfall_outbox_oldest_seconds")).toBeGreaterThan(86_000);
});
