/**
 * A session's anonymous events become a user's, and the rollups follow exactly, whatever else
 * changes them meanwhile.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, startWorker } from "../harness.ts";
import { randomFrom } from "../worker/brute-force.ts";

const ZONE = "Europe/Berlin";

let api: TestApi;
beforeAll(async () => {
  // Nothing stale; tests/cache tests what is served a moment longer, as `stale`.
  api = await createTestApi({ CACHE_STALE_MS: "0" });
});
afterAll(cleanup);

async function shop() {
  const tenant = await createTenant(api, { time_zone: ZONE });
  const person = await createPerson(api, tenant.tenantId, "customer");
  return { ...tenant, ...person };
}

const send = async (tenant: TestTenant, events: Record<string, unknown>[]) => {
  const { status } = await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  expect(status).toBe(202);
};
let refusedLinks = 0;
const link = async (as: string, sessionId: string) => {
  let linked = 0;
  // Behind a long rebuild it is refused, with what it has linked so far; clients ask again.
  await eventually(
    async () => {
      const { status, body } = await api.call("POST", "/events/link-session", { as, json: { sessionId } });
      if (status === 503) {
        refusedLinks += 1;
        return false;
      }
      expect(status).toBe(200);
      linked = body.linked;
      return true;
    },
    { timeoutMs: 60_000 },
  );
  return linked;
};

/** Rollups equal the events, and nothing waits. */
async function expectClean({ tenantId }: TestTenant): Promise<void> {
  const report = await verifyTenant(api.deps.db.transactions, { tenantId, timeZone: ZONE }, {});
  expect(report).toMatchObject({ differences: [], differing: 0, waiting: 0, dead: 0 });
  expect(report.rowsChecked).toBeGreaterThan(0);
}

/** Over a midnight of the tenant's zone and a month's end. */
const AT = Date.parse("2026-10-31T22:58:00Z");
const visit = (sessionId: string, who: Record<string, unknown>, n = 6) =>
  Array.from({ length: n }, (_, index) => ({
    type: ["view", "add_to_cart", "purchase", "refund", "search", "click"][index % 6],
    productId: "p-1",
    sessionId,
    timestamp: AT + index * 30_000,
    properties: { quantity: 2, price: 1.2345 },
    ...who,
  }));

test("anonymous events change hands, and every answer follows", async () => {
  const one = await shop();
  const other = await shop();
  await send(one, visit("s", { anonymousId: "a" }));
  await send(one, visit("s", {}));
  await send(one, visit("s", { userId: "somebody-else", anonymousId: "a" }));
  await send(one, visit("t", { anonymousId: "a" }));
  await send(other, visit("s", { anonymousId: "a" }));
  await rollUpAll(api);
  const days = "startDate=2026-10-20&endDate=2026-11-10";
  const mine = () => api.call("GET", `/analytics/users/me/summary?${days}`, { as: one.token });
  const users = () => api.call("GET", `/analytics/summary?${days}`, { as: one.key });
  expect((await mine()).body.totals.events).toBe(0);
  expect((await users()).body.totals.uniqueUsers).toBe(3);

  expect(await link(one.token, "s")).toBe(12);
  expect((await mine()).body.totals).toMatchObject({
    ...{ events: 12, views: 2, purchases: 2, units: 0, spend: 0, activeDays: 2 },
  });
  // The session itself was the key of the anonymous events, and is no user now.
  expect((await users()).body.totals).toMatchObject({ events: 24, uniqueUsers: 3, sessions: 2 });
  const { body } = await api.call("GET", "/events?sessionId=s&limit=100", { as: one.key });
  const owners = Map.groupBy(body.items, ({ userId }: { userId: string }) => userId);
  expect([...owners].map(([userId, own]) => [userId, own.length]).sort()).toEqual(
    [
      [one.userId, 12],
      ["somebody-else", 6],
    ].sort() as never,
  );
  await expectClean(one);
  await expectClean(other);

  expect(await link(one.token, "s")).toBe(0);
  expect(await link(one.token, "unknown")).toBe(0);
  const second = await createPerson(api, one.tenantId, "admin");
  expect(await link(second.token, "s")).toBe(0);
  const [{ n }] = (await api.sql`select count(*)::int as n from events
    where tenant_id = ${other.tenantId} and user_id is not null`) as unknown as [{ n: number }];
  expect(n).toBe(0);
  await expectClean(one);
});

test("what waits to be rolled up is linked, too; a dead letter is not, and counts for nobody twice", async () => {
  const one = await shop();
  await send(one, visit("s", { anonymousId: "a" }));
  expect(await link(one.token, "s")).toBe(6);
  await expectClean(one);

  await send(one, visit("s", { anonymousId: "b" }));
  await api.sql`update event_batches set dead_lettered_at = now()
    where tenant_id = ${one.tenantId} and rolled_up_at is null`;
  expect(await link(one.token, "s")).toBe(0);
  await api.sql`update event_batches set dead_lettered_at = null where tenant_id = ${one.tenantId}`;
  await rollUpAll(api);
  await expectClean(one);
  expect(await link(one.token, "s")).toBe(6);
  await expectClean(one);
});

test("a user whose id was the anonymous id all along keeps the same row", async () => {
  const one = await shop();
  await send(one, visit("s", { anonymousId: one.userId }));
  expect(await link(one.token, "s")).toBe(6);
  await expectClean(one);
});

test("a very long session goes in several transactions, and two users share nothing of it", async () => {
  const one = await shop();
  const second = await createPerson(api, one.tenantId, "seller");
  for (let n = 0; n < 3; n += 1) await send(one, visit("long", { anonymousId: `a-${n}` }, 2_000));
  const linked = await Promise.all([link(one.token, "long"), link(second.token, "long")]);
  expect(linked.reduce((sum, n) => sum + n)).toBe(6_000);
  await expectClean(one);
}, 30_000);

describe("the route", () => {
  test("is for signed-in users, of any role", async () => {
    const { tenantId, key } = await shop();
    const writer = await createKey(api, tenantId, ["events:write"]);
    for (const as of [key, writer]) {
      const { status } = await api.call("POST", "/events/link-session", { as, json: { sessionId: "s" } });
      expect(status).toBe(403);
    }
    for (const role of ["admin", "seller", "analyst", "customer"] as const)
      expect(await link((await createPerson(api, tenantId, role)).token, "s")).toBe(0);
  });

  test.each([
    [{}],
    [{ sessionId: "" }],
    [{ sessionId: "a\0" }],
    [{ sessionId: 7 }],
    [{ sessionId: "s", userId: "x" }],
  ])("refuses %p", async (json) => {
    const { token } = await shop();
    expect((await api.call("POST", "/events/link-session", { as: token, json })).status).toBe(400);
  });
});

test("linking waits for a rebuild that has begun", async () => {
  const one = await shop();
  await send(one, visit("s", { anonymousId: "a" }));
  await rollUpAll(api);
  const linking = await api.sql.begin(async (tx) => {
    await tx`lock table product_daily_stats in share row exclusive mode`;
    const pending = link(one.token, "s");
    await eventually(async () => {
      const waiting = await api.sql`select from pg_locks
        where relation = 'product_daily_stats'::regclass and not granted`;
      return waiting.length > 0;
    });
    return { pending };
  });
  expect(await linking.pending).toBe(6);
  await expectClean(one);
});

test("linking while events come in, workers roll up and somebody rebuilds leaves nothing wrong", async () => {
  const one = await shop();
  const people = await Promise.all([1, 2, 3].map(() => createPerson(api, one.tenantId, "customer")));
  const random = randomFrom(77);
  const pick = (n: number) => Math.floor(random() * n);
  // Recounting is another process's work, with a pool of its own.
  const other = createTestDeps(api.config);
  const zoned = { tenantId: one.tenantId, timeZone: ZONE };
  const verify = () => verifyTenant(other.db.transactions, zoned, {});
  await startWorker(api.env);
  await send(one, visit("s-0", { anonymousId: "a" }));
  let working = true;
  let linked = 0;
  let refused = 0;
  let rebuilt = 0;
  /** Repeatedly, with pauses for the others: the machine has few cores. */
  const until = async (work: () => Promise<unknown>) => {
    while (working) {
      await work();
      await Bun.sleep(pick(60));
    }
  };
  const ingest = () =>
    until(() =>
      send(one, visit(`s-${pick(4)}`, random() < 0.8 ? { anonymousId: `a-${pick(3)}` } : {}, 1 + pick(60))),
    );
  const linking = () =>
    until(async () => {
      const as = people[pick(3)]?.token ?? "";
      const json = { sessionId: `s-${pick(4)}` };
      const { status, body } = await api.call("POST", "/events/link-session", { as, json });
      // A rebuild may hold its lock for longer than a request waits.
      expect([200, 503]).toContain(status);
      if (status === 503) refused += 1;
      else linked += body.linked;
    });
  const rebuild = () =>
    until(async () => {
      await rebuildTenant(other.db.transactions, zoned, {});
      rebuilt += 1;
      await Bun.sleep(300);
    });
  const compare = async () => {
    for (let round = 0; round < 12 && working; round += 1) {
      expect((await verify()).differences).toEqual([]);
      await Bun.sleep(250);
    }
    working = false;
  };
  const racers = [
    ingest(),
    ingest(),
    linking(),
    linking(),
    linking(),
    rebuild(),
    until(() => rollUpAll(api)),
  ];
  const stopped = [...racers, compare()].map((racer) =>
    racer.finally(() => {
      working = false;
    }),
  );
  await Promise.all(stopped);
  await eventually(async () => (await verify()).waiting === 0);
  await expectClean(one);
  for (const { token } of people) for (let s = 0; s < 4; s += 1) linked += await link(token, `s-${s}`);
  await expectClean(one);
  const [row] = await api.sql<{ total: number; anonymous: number }[]>`
    select count(*)::int as total, (count(*) filter (where user_id is null))::int as anonymous
    from events where tenant_id = ${one.tenantId}`;
  expect(row?.anonymous).toBe(0);
  // Of a refused one, parts may have been linked already.
  if (refused + refusedLinks === 0) expect(linked).toBe(row?.total ?? -1);
  else expect(linked).toBeLessThanOrEqual(row?.total ?? -1);
  expect(linked).toBeGreaterThan(500);
  expect(rebuilt).toBeGreaterThan(2);
}, 180_000);
