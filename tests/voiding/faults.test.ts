/**
 * Voiding while others work on the same rows, and killed in the middle: exactly once, and rollups
 * always equal the events. The controls remove a guard from the text of a statement, and the same
 * check must see it break.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { operatorContext } from "../../src/core/principal.ts";
import type { Database } from "../../src/db/client.ts";
import type { Deps } from "../../src/deps.ts";
import { createEventVoids, rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import { createSweeper } from "../../worker/jobs/sweeper.ts";
import {
  callOver,
  createPerson,
  createTestApi,
  createTestDeps,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { rewriting } from "../faults/rewriting.ts";
import { cleanup, eventually, startServer, startWorker } from "../harness.ts";
import { randomFrom } from "../worker/brute-force.ts";
import {
  createShop,
  expectNoDifference,
  holdRows,
  idsByMessage,
  randomEvents,
  send,
  untilWaiting,
  voidEvent,
  ZONE,
} from "./stage.ts";

let api: TestApi;
/** Recounts and held locks are another process's. */
let other: Deps;
beforeAll(async () => {
  api = await createTestApi({ CACHE_STALE_MS: "0" });
  other = createTestDeps(api.config);
});
afterAll(cleanup);

/**
 * Voids without the timeouts of requests, and optionally without some guards: texts that are
 * replaced in statements.
 */
function voidsWithout(guards: [guard: string, instead: string][]) {
  const { deps } = api;
  const db: Database = {
    ...deps.db,
    transaction: (work) =>
      other.db.transactions.begin((tx) =>
        work(guards.reduce((inner, [guard, instead]) => rewriting(inner, { [guard]: instead }), tx)),
      ) as never,
  };
  const { invalidator, announcer } = deps;
  return createEventVoids({ db, invalidator, announcer, whyKept: async () => null });
}

async function shopWith(events: Record<string, unknown>[]): Promise<{ shop: TestTenant; ids: string[] }> {
  const shop = await createShop(api);
  await send(api, shop, events);
  return { shop, ids: [...(await idsByMessage(api, shop)).values()] };
}

const both = (name: string, run: (guarded: boolean) => Promise<void>) =>
  describe(name, () => {
    test("holds", () => run(true));
    test("breaks without its guard", () => run(false));
  });

const differing = async ({ tenantId }: TestTenant) =>
  (await verifyTenant(other.db.transactions, { tenantId, timeZone: ZONE }, {})).differing;

const sale = { type: "purchase", anonymousId: "a", productId: "p", properties: { quantity: 2, price: 3 } };

both("two calls at once take it out once: the mark", async (guarded) => {
  const { shop, ids } = await shopWith([
    { ...sale, messageId: "wrong" },
    { ...sale, messageId: "right" },
  ]);
  await rollUpAll(api);
  const voids = voidsWithout(
    guarded
      ? []
      : [
          ['voided_at as "voidedAt"', 'null::timestamptz as "voidedAt"'],
          ["e.id = $3 and e.voided_at is null", "e.id = $3"],
        ],
  );
  const release = await holdRows(api, shop);
  const calls = [1, 2].map(() => voids.voidEvent(operatorContext(shop.tenantId), ids[0] ?? ""));
  await untilWaiting(api, 2);
  await release();
  const outcomes = await Promise.all(calls);
  if (guarded) {
    expect(outcomes.map(({ alreadyVoided }) => alreadyVoided).sort()).toEqual([false, true]);
    expect(new Set(outcomes.map(({ voidedAt }) => voidedAt)).size).toBe(1);
    expect(await differing(shop)).toBe(0);
  } else expect(await differing(shop), "what it counted was taken away twice").toBeGreaterThan(0);
});

both(
  "a worker that has read the batch counts it before it is taken out: the ledger's lock",
  async (guarded) => {
    const { shop } = await shopWith([{ ...sale, messageId: "before" }]);
    await rollUpAll(api);
    await send(api, shop, [{ ...sale, messageId: "wrong" }]);
    const id = (await idsByMessage(api, shop)).get("wrong") ?? "";
    const release = await holdRows(api, shop);
    const rolledUp = rollUpAll({ deps: other });
    await untilWaiting(api, 1);
    const voids = voidsWithout(guarded ? [] : [["rolled_up_at is null for update", "rolled_up_at is null"]]);
    const voided = voids.voidEvent(operatorContext(shop.tenantId), id);
    await untilWaiting(api, 2);
    await release();
    await Promise.all([rolledUp, voided]);
    await rollUpAll(api);
    if (guarded) expect(await differing(shop)).toBe(0);
    else expect(await differing(shop), "it was counted after it was marked").toBeGreaterThan(0);
  },
);

test("waits for a rebuild that has begun", async () => {
  const { shop, ids } = await shopWith([{ ...sale, messageId: "wrong" }]);
  const voids = voidsWithout([]);
  const rebuilding = await api.sql.begin(async (tx) => {
    await tx`lock table product_daily_stats in share row exclusive mode`;
    const voided = voids.voidEvent(operatorContext(shop.tenantId), ids[0] ?? "");
    await untilWaiting(api, 1);
    return { voided };
  });
  expect(await rebuilding.voided).toMatchObject({ alreadyVoided: false });
  await rollUpAll(api);
  expect(await differing(shop)).toBe(0);
});

test("an API killed in the transaction has done nothing; the next call does it", async () => {
  const server = await startServer(api.env);
  const { shop, ids } = await shopWith(randomEvents(21, 20));
  await rollUpAll(api);
  const [id = ""] = ids;
  const release = await holdRows(api, shop);
  const lost = callOver(server.url)("POST", `/events/${id}/void`, { as: shop.key }).catch(() => null);
  await untilWaiting(api, 1);
  server.kill("SIGKILL");
  await server.exited;
  await release();
  await lost;
  await eventually(async () => {
    const left = await api.sql`select from pg_stat_activity
      where datname = current_database() and application_name = 'footfall api'`;
    return left.length === 0;
  });
  const [row] =
    await api.sql`select count(voided_at)::int as voided from events where tenant_id = ${shop.tenantId}`;
  expect(row?.voided).toBe(0);
  await expectNoDifference(api, shop);
  expect((await voidEvent(api, shop.key, id)).body).toMatchObject({ alreadyVoided: false });
  await expectNoDifference(api, shop);
}, 60_000);

test("killed between the commit and the tags, the ledger has cached answers follow", async () => {
  const server = await startServer(api.env);
  const { shop, ids } = await shopWith(randomEvents(22, 20));
  await rollUpAll(api);
  const summary = async () =>
    (await api.call("GET", "/analytics/summary?startDate=2026-10-20&endDate=2026-11-05", { as: shop.key }))
      .body;
  await summary();
  // Deletions wait inside Redis, and those of a dead client are dropped.
  await api.deps.redis.client("PAUSE", 60_000, "WRITE");
  try {
    const lost = callOver(server.url)("POST", `/events/${ids[0]}/void`, { as: shop.key }).catch(() => null);
    await eventually(async () => {
      const marked =
        await api.sql`select from events where tenant_id = ${shop.tenantId} and voided_at is not null`;
      return marked.length > 0;
    });
    server.kill("SIGKILL");
    await server.exited;
    await lost;
    await Bun.sleep(50);
  } finally {
    await api.deps.redis.client("UNPAUSE");
  }
  await expectNoDifference(api, shop);
  expect(await summary()).toMatchObject({ totals: { events: 20 }, meta: { cache: "hit" } });
  await api.sql`update event_batches set received_at = received_at - interval '20 s' where tenant_id = ${shop.tenantId}`;
  await createSweeper(api.deps, "test").runOnce();
  expect(await summary()).toMatchObject({ totals: { events: 19 }, meta: { cache: "miss" } });
  await expectNoDifference(api, shop);
}, 60_000);

test("voiding while events come in, workers roll up, users link, days are folded and somebody rebuilds", async () => {
  const shop = await createShop(api);
  const random = randomFrom(911);
  const pick = (n: number) => Math.floor(random() * n);
  const people = await Promise.all([1, 2].map(() => createPerson(api, shop.tenantId, "customer")));
  await startWorker(api.env);
  await send(api, shop, randomEvents(100, 40));
  let working = true;
  let batches = 0;
  const taken = new Map<string, number>();
  /** Repeatedly, with pauses for the others: the machine has few cores. */
  const until = async (work: () => Promise<unknown>, pauseMs = 60) => {
    while (working) {
      await work();
      await Bun.sleep(pick(pauseMs));
    }
  };
  const ingest = () =>
    until(() => {
      batches += 1;
      return send(api, shop, randomEvents(1_000 + batches, 1 + pick(40)));
    });
  const voiding = () =>
    until(async () => {
      const [row] = await api.sql<{ id: string }[]>`
        select id from events where tenant_id = ${shop.tenantId} order by md5(id::text || ${random()}::text) limit 1`;
      const { status, body } = await voidEvent(api, shop.key, row?.id ?? "");
      // A rebuild may hold its lock for longer than a request waits.
      expect([200, 503]).toContain(status);
      if (status === 200 && !body.alreadyVoided) taken.set(body.id, (taken.get(body.id) ?? 0) + 1);
    });
  const linking = () =>
    until(async () => {
      const as = people[pick(2)]?.token ?? "";
      const json = { sessionId: `s-${pick(30)}` };
      expect([200, 503]).toContain((await api.call("POST", "/events/link-session", { as, json })).status);
    });
  const zoned = { tenantId: shop.tenantId, timeZone: ZONE };
  const rebuild = () => until(() => rebuildTenant(other.db.transactions, zoned, {}), 600);
  const compare = async () => {
    for (let round = 0; round < 5 && working; round += 1) {
      expect((await verifyTenant(other.db.transactions, zoned, {})).differences).toEqual([]);
      await Bun.sleep(200);
    }
    working = false;
  };
  const racers = [ingest(), voiding(), voiding(), voiding(), linking(), rebuild(), compare()];
  await Promise.all(
    racers.map((racer) =>
      racer.finally(() => {
        working = false;
      }),
    ),
  );
  await eventually(async () => (await verifyTenant(other.db.transactions, zoned, {})).waiting === 0, {
    timeoutMs: 60_000,
  });
  await expectNoDifference(api, shop);
  const marked = await api.sql<{ id: string }[]>`
    select id from events where tenant_id = ${shop.tenantId} and voided_at is not null order by id`;
  expect(marked.length).toBeGreaterThan(10);
  // Each void is answered as the first exactly once. An answer of 503 may have been lost with its
  // commit; none is doubled.
  for (const [id, n] of taken) expect([id, n]).toEqual([id, 1]);
  expect(marked.map(({ id }) => id)).toEqual(expect.arrayContaining([...taken.keys()]));
}, 180_000);
