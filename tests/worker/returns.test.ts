/**
 * Unique users, buyers and sessions of any range equal a count over all events, whatever folds,
 * links and rebuilds meanwhile.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { addDays } from "../../src/core/days.ts";
import { classifyFailure } from "../../src/db/failures.ts";
import type { Deps } from "../../src/deps.ts";
import { rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  createTestDeps,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";
import { bucketOf, dayOf, randomFrom } from "./brute-force.ts";

const FIRST = "2026-08-20";
const DAYS = 70;
const ROUNDS = Number(process.env.PROPERTY_CASES ?? 6);

let api: TestApi;
let others: Deps[];
beforeAll(async () => {
  api = await createTestApi();
  others = [createTestDeps(api.config), createTestDeps(api.config), createTestDeps(api.config)];
});
afterAll(cleanup);

interface Shop extends TestTenant {
  zone: string;
  random: () => number;
}

async function openShop(zone: string, seed: number): Promise<Shop> {
  const tenant = await createTenant(api, { time_zone: zone });
  return { ...tenant, zone, random: randomFrom(seed) };
}

const pick = ({ random }: Shop, n: number) => Math.floor(random() * n);

/**
 * Events of a few users and sessions on any days, in any order: most of a member's days come after
 * later ones.
 */
async function send(shop: Shop, count: number): Promise<void> {
  const events = Array.from({ length: count }, () => ({
    ...(pick(shop, 4) === 0 ? { type: "purchase", properties: { price: 2 } } : { type: "view" }),
    productId: `p-${pick(shop, 5)}`,
    sessionId: `s-${pick(shop, 30)}`,
    timestamp: Date.parse(FIRST) + Math.floor(shop.random() * DAYS * 86_400_000),
    ...[{ userId: `u-${pick(shop, 12)}` }, { anonymousId: `a-${pick(shop, 12)}` }, {}][pick(shop, 3)],
  }));
  const { status } = await api.call("POST", "/events/bulk", { as: shop.key, json: { events } });
  expect(status).toBe(202);
}

const PERIODS = ["day", "week", "month"] as const;

async function audience(shop: Shop, from: string, to: string) {
  const query = `startDate=${from}&endDate=${to}&groupBy=month&skipCache=true`;
  const { status, body } = await api.call("GET", `/analytics/summary?${query}`, { as: shop.key });
  expect(status).toBe(200);
  const { uniqueUsers, buyers, purchaseRate, sessions } = body.totals;
  expect(purchaseRate).toBe(uniqueUsers === 0 ? 0 : buyers / uniqueUsers);
  return { from, to, uniqueUsers, buyers, sessions };
}

/** Users and buyers by day, week and month. */
async function usersBy(shop: Shop, startDate: string, endDate: string) {
  const metrics = ["uniqueUsers", "buyers", "purchaseRate"];
  const ask = async (period: string) => {
    const json = { metrics, dimensions: [period], startDate, endDate, limit: 1_000, skipCache: true };
    return (await api.call("POST", "/analytics/query", { as: shop.key, json })).body.rows;
  };
  return Promise.all(PERIODS.map(ask));
}

async function expectExact(shop: Shop): Promise<void> {
  const events = await api.sql<{ ts: Date; type: string; user: string; session: string }[]>`
    select ts, type, coalesce(user_id, anonymous_id, session_id) as user, session_id as session from events
    where tenant_id = ${shop.tenantId}`;
  const visits = events.map(({ ts, ...who }) => ({ day: dayOf(ts.getTime(), shop.zone), ...who }));
  const first = addDays(FIRST, -1);
  const ranges = Array.from({ length: 8 }, () => {
    const from = addDays(first, pick(shop, DAYS));
    return { from, to: addDays(from, pick(shop, DAYS)) };
  });
  for (const [index, { from, to }] of [{ from: first, to: addDays(FIRST, DAYS) }, ...ranges].entries()) {
    const within = visits.filter(({ day }) => day >= from && day <= to);
    const usersOf = (own: typeof visits) => {
      const [uniqueUsers, buyers] = [own, own.filter(({ type }) => type === "purchase")].map(
        (some) => new Set(some.map(({ user }) => user)).size,
      ) as [number, number];
      return { uniqueUsers, buyers };
    };
    const sessions = new Set(within.map(({ session }) => session)).size;
    const series = PERIODS.map((period) =>
      [...Map.groupBy(within, ({ day }) => bucketOf(Date.parse(day), "UTC", period))]
        .map(([bucket, own]) => ({ [period]: bucket, ...usersOf(own) }))
        .map((row) => ({ ...row, purchaseRate: row.buyers / row.uniqueUsers }))
        .sort((a, b) => (Object.values(a).join() < Object.values(b).join() ? 1 : -1)),
    );
    expect(await audience(shop, from, to)).toEqual({ from, to, ...usersOf(within), sessions });
    if (index < 2) expect(await usersBy(shop, from, to)).toEqual(series);
  }
}

const zoned = ({ tenantId, zone }: Shop) => ({ tenantId, timeZone: zone });
const verify = (shop: Shop) => verifyTenant(api.deps.db.transactions, zoned(shop), {});
const rebuild = (shop: Shop, range = {}) => rebuildTenant(api.deps.db.transactions, zoned(shop), range);

async function expectClean(shop: Shop): Promise<void> {
  expect(await verify(shop)).toMatchObject({ differences: [], differing: 0, waiting: 0, dead: 0 });
}

async function countUnfolded({ tenantId }: Shop): Promise<number> {
  const [row] = await api.sql<{ n: number }[]>`select (
    (select count(*) from user_daily_stats where tenant_id = ${tenantId} and not folded)
    + (select count(*) from buyer_daily_stats where tenant_id = ${tenantId} and not folded)
    + (select count(*) from session_daily_stats where tenant_id = ${tenantId} and not folded))::int as n`;
  return row?.n ?? -1;
}

/** Several processes at once, a few rows a transaction each. */
const foldTogether = (rowsAtOnce = 9) =>
  Promise.all([api.deps, ...others].map(({ returnsFolder }) => returnsFolder.fold(rowsAtOnce)));

test("late days, several tenants, several folders: every range is exact, folded or not", async () => {
  const shops = await Promise.all([
    openShop("Europe/Berlin", 1),
    openShop("Asia/Kolkata", 2),
    openShop("UTC", 3),
  ]);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const shop of shops) await send(shop, 60);
    await rollUpAll(api);
    for (const shop of shops) await expectExact(shop);
    await foldTogether(1 + round * 7);
    for (const shop of shops) {
      await expectExact(shop);
      await expectClean(shop);
      expect(await countUnfolded(shop)).toBe(0);
    }
  }
}, 60_000);

test("an answer given while rows are folded counts each of them once", async () => {
  const shop = await openShop("Europe/Berlin", 4);
  await send(shop, 900);
  await rollUpAll(api);
  const range = [FIRST, addDays(FIRST, DAYS)] as const;
  const expected = await audience(shop, ...range);
  let folding = true;
  const folded = foldTogether(25).finally(() => {
    folding = false;
  });
  let asked = 0;
  for (; folding; asked += 1) expect(await audience(shop, ...range)).toEqual(expected);
  await folded;
  expect(asked).toBeGreaterThan(0);
  await expectExact(shop);
}, 30_000);

test("a folder that is killed in the middle has done nothing, and another goes on", async () => {
  const shop = await openShop("Europe/Berlin", 5);
  await send(shop, 200);
  await rollUpAll(api);
  await others[0]?.returnsFolder.fold(40);
  await send(shop, 200);
  await rollUpAll(api);
  const waiting = await countUnfolded(shop);
  const killed = await api.sql.begin(async (tx) => {
    // It has locked its rows and is about to count them.
    await tx`lock table daily_return_stats in share mode`;
    const pending = Promise.allSettled([api.deps.returnsFolder.fold()]);
    let pids: { pid: number }[] = [];
    await eventually(async () => {
      pids = await tx`select pid from pg_locks
        where relation = 'daily_return_stats'::regclass and not granted`;
      return pids.length > 0;
    });
    await tx`select pg_terminate_backend(${pids[0]?.pid ?? 0})`;
    return { pending };
  });
  await killed.pending;
  expect(waiting).toBeGreaterThan(0);
  await expectExact(shop);
  await expectClean(shop);
  await foldTogether();
  expect(await countUnfolded(shop)).toBe(0);
  await expectExact(shop);
  await expectClean(shop);
}, 30_000);

test("what takes too long at once is folded in smaller parts", async () => {
  const shop = await openShop("Europe/Berlin", 10);
  await send(shop, 900);
  await rollUpAll(api);
  expect(await countUnfolded(shop)).toBeGreaterThan(600);
  // As a statement ends that ran too long, because of a thousand members with years of days.
  await api.sql`create function too_long() returns trigger language plpgsql as ${api.sql.unsafe(`$$ begin
    if (select count(*) from marked) > 100 then
      raise exception 'canceling statement due to statement timeout' using errcode = '57014';
    end if;
    return null;
  end $$`)}`;
  for (const table of ["user_daily_stats", "session_daily_stats"])
    await api.sql`create trigger too_long after update on ${api.sql(table)}
      referencing new table as marked for each statement execute function too_long()`;
  try {
    await api.deps.returnsFolder.fold();
  } finally {
    await api.sql`drop function too_long cascade`;
  }
  expect(await countUnfolded(shop)).toBe(0);
  await expectExact(shop);
  await expectClean(shop);
}, 30_000);

test("a large backlog keeps no other tenant waiting, nor does one at which folding fails", async () => {
  const [large, small] = [await openShop("UTC", 11), await openShop("UTC", 12)];
  for (const [shop, count] of [
    [large, 300],
    [small, 5],
  ] as const)
    await send(shop, count);
  await rollUpAll(api);
  await api.sql`create table turns (n serial, tenant_id uuid)`;
  await api.sql`create function note_turn() returns trigger language plpgsql as ${api.sql.unsafe(`$$ begin
    insert into turns (tenant_id) select distinct tenant_id from marked; return null;
  end $$`)}`;
  await api.sql`create trigger note_turn after update on user_daily_stats
    referencing new table as marked for each statement execute function note_turn()`;
  const { returnsFolder } = createTestDeps(api.config);
  try {
    await api.sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(hashtextextended(${`returns user ${large.tenantId}`}, 0))`;
      await expect(returnsFolder.fold(20).then(() => null, classifyFailure)).resolves.toBe("locked");
      // In the same round, although its turn comes after the one that failed.
      expect(await countUnfolded(small)).toBe(0);
    });
    await send(small, 60);
    await rollUpAll(api);
    await returnsFolder.fold(10);
    const turns = await api.sql<{ tenantId: string }[]>`select tenant_id as "tenantId" from turns order by n`;
    const order = turns.map(({ tenantId }) => tenantId);
    expect(order.lastIndexOf(small.tenantId)).toBeGreaterThan(order.indexOf(large.tenantId));
    expect(order.indexOf(small.tenantId, order.indexOf(large.tenantId))).toBeLessThan(
      order.lastIndexOf(large.tenantId),
    );
  } finally {
    await api.sql`drop function note_turn cascade`;
  }
  for (const shop of [large, small]) {
    expect(await countUnfolded(shop)).toBe(0);
    await expectExact(shop);
    await expectClean(shop);
  }
}, 60_000);

test("linked sessions leave no day behind, whether it was folded or not", async () => {
  const shop = await openShop("Europe/Berlin", 6);
  const people = await Promise.all([1, 2].map(() => createPerson(api, shop.tenantId, "customer")));
  for (let round = 0; round < 3; round += 1) {
    await send(shop, 120);
    await rollUpAll(api);
    if (round !== 1) await foldTogether();
    for (let n = 0; n < 6; n += 1) {
      const json = { sessionId: `s-${pick(shop, 30)}` };
      const as = people[n % 2]?.token ?? "";
      expect((await api.call("POST", "/events/link-session", { as, json })).status).toBe(200);
    }
    await expectExact(shop);
    await expectClean(shop);
  }
  await foldTogether();
  await expectExact(shop);
  await expectClean(shop);
}, 30_000);

describe("verify finds and rebuild mends", () => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await openShop("Europe/Berlin", 7);
    await send(shop, 300);
    await rollUpAll(api);
    await foldTogether();
  });
  const one = () => api.sql`select ctid from daily_return_stats
    where tenant_id = ${shop.tenantId} and members > 0 order by random() limit 1`;

  test.each([
    ["a count", () => api.sql`update daily_return_stats set members = members + 1 where ctid in (${one()})`],
    ["a pair too few", () => api.sql`delete from daily_return_stats where ctid in (${one()})`],
    [
      "a pair too many",
      () => api.sql`insert into daily_return_stats (tenant_id, subject, day, previous_day, members)
        values (${shop.tenantId}, 'session', '2026-09-01', '1999-01-01', 1)`,
    ],
  ])("%s", async (_, tamper) => {
    await tamper();
    const report = await verify(shop);
    expect(report.differing).toBe(1);
    expect(report.differences[0]?.table).toBe("daily_return_stats");
    await rebuild(shop, { from: "2026-09-01", to: "2026-09-02" });
    await expectClean(shop);
    await expectExact(shop);
  });

  test("a row that claims to be counted", async () => {
    await send(shop, 60);
    await rollUpAll(api);
    await api.sql`update user_daily_stats set folded = true where tenant_id = ${shop.tenantId}`;
    expect((await verify(shop)).differences[0]?.table).toBe("daily_return_stats");
    await rebuild(shop);
    await expectClean(shop);
    await expectExact(shop);
  });

  test("a vanished user day, with the counts made of it", async () => {
    await api.sql`delete from user_daily_stats where ctid in (select ctid from user_daily_stats
      where tenant_id = ${shop.tenantId} and folded limit 1)`;
    const report = await verify(shop);
    expect(report.differences.map(({ table }) => table)).toEqual(["user_daily_stats"]);
    await rebuild(shop);
    await expectClean(shop);
    await expectExact(shop);
  });
});

test("folding while two processes roll up, sessions are linked and somebody rebuilds", async () => {
  const shop = await openShop("Europe/Berlin", 8);
  const neighbour = await openShop("Asia/Kolkata", 9);
  const people = await Promise.all([1, 2].map(() => createPerson(api, shop.tenantId, "customer")));
  await send(shop, 50);
  await send(neighbour, 50);
  let working = true;
  /** With pauses for the others: the machine has few cores. */
  const until = async (work: () => Promise<unknown>) => {
    while (working) {
      await work();
      await Bun.sleep(pick(shop, 60));
    }
  };
  const link = async () => {
    const as = people[pick(shop, 2)]?.token ?? "";
    const json = { sessionId: `s-${pick(shop, 30)}` };
    const { status } = await api.call("POST", "/events/link-session", { as, json });
    expect([200, 503]).toContain(status);
  };
  const recount = async () => {
    for (let round = 0; round < 6 && working; round += 1) {
      await rebuild(shop, round % 2 ? {} : { from: "2026-09-10", to: "2026-09-20" });
      expect((await verify(shop)).differences).toEqual([]);
      expect((await verify(neighbour)).differences).toEqual([]);
    }
    working = false;
  };
  const racers = [
    until(() => send(shop, 1 + pick(shop, 40))),
    until(() => send(neighbour, 1 + pick(neighbour, 40))),
    until(() => rollUpAll(api)),
    until(() => rollUpAll({ deps: others[0] as Deps })),
    until(() => api.deps.returnsFolder.fold(13)),
    until(() => (others[1] as Deps).returnsFolder.fold(50)),
    until(link),
    until(link),
    recount(),
  ];
  await Promise.all(
    racers.map((racer) =>
      racer.finally(() => {
        working = false;
      }),
    ),
  );
  await rollUpAll(api);
  for (const one of [shop, neighbour]) {
    await expectExact(one);
    await expectClean(one);
  }
  await foldTogether();
  for (const one of [shop, neighbour]) {
    await expectExact(one);
    await expectClean(one);
    expect(await countUnfolded(one)).toBe(0);
  }
}, 90_000);
