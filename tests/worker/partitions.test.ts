/**
 * Partitions of `events`: few however long the history is, made at need, and not read by statements
 * with bounds on time.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Sql } from "postgres";
import { ensurePartitions } from "../../src/db/partitions.ts";
import { rebuildTenant, verifyTenant } from "../../src/features/rollups/index.ts";
import { createPartitionKeeper } from "../../worker/jobs/partitions.ts";
import {
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, runFootfall } from "../harness.ts";
import { createFiles, importFile } from "../import/fixtures.ts";

const DAY_MS = 86_400_000;

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  // Very old: the limits of live events' age are tested below.
  api = await createTestApi({ EVENT_MAX_AGE_DAYS: "36500", CACHE_STALE_MS: "0" });
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

async function names(sql: Sql = api.sql): Promise<string[]> {
  const rows = await sql<
    { name: string }[]
  >`select relname as name from pg_class join pg_inherits on inhrelid = oid
    where inhparent = 'events'::regclass order by 1`;
  return rows.map((row) => row.name);
}

async function bulk(events: Record<string, unknown>[]): Promise<void> {
  const { status, body } = await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  expect([status, body.inserted]).toEqual([202, events.length]);
}

/** How many events of the tenant are in which partition. */
async function placed(): Promise<Record<string, number>> {
  const rows = await api.sql<{ name: string; n: number }[]>`
    select tableoid::regclass::text as name, count(*)::int as n from events
    where tenant_id = ${tenant.tenantId} group by 1 order by 1`;
  return Object.fromEntries(rows.map(({ name, n }) => [name, n]));
}

describe("the layout", () => {
  const NOW = Date.UTC(2026, 10, 28);

  test("is by month in this year and the last, by year before", async () => {
    const days = ["2027-01-01", "2026-02-28", "2025-01-31", "2024-12-31", "2024-01-01", "2001-06-15"];
    await ensurePartitions(api.sql, days, NOW);
    const made = await names();
    for (const name of ["events_2027_01", "events_2026_02", "events_2025_01", "events_2024", "events_2001"])
      expect(made).toContain(name);
    expect(made.filter((name) => /^events_(2024|2001)/.test(name))).toEqual(["events_2001", "events_2024"]);
  });

  test("fills the gaps between the months that a year has from before", async () => {
    for (const [from, until] of [
      ["2005-03", "2005-04"],
      ["2005-07", "2005-08"],
      ["2005-08", "2005-09"],
    ])
      await api.sql.unsafe(`create table events_${from?.replace("-", "_")} partition of events
        for values from ('${from}-01T00:00:00Z') to ('${until}-01T00:00:00Z')`);
    const instants = Array.from({ length: 12 }, (_, month) => Date.UTC(2005, month, 1)).flatMap((at) => [
      at - 1,
      at,
    ]);
    await bulk(instants.map((timestamp) => eventInput({ timestamp })));
    expect(await placed()).toEqual({
      events_2004: 1,
      events_2005_01_until_2005_03: 4,
      events_2005_03: 2,
      events_2005_04_until_2005_07: 6,
      events_2005_07: 2,
      events_2005_08: 2,
      events_2005_09_until_2006_01: 7,
    });
    await rollUpAll(api);
    const zoned = { tenantId: tenant.tenantId, timeZone: "UTC" };
    const spring = { from: "2005-02-20", to: "2005-04-10" };
    await rebuildTenant(api.deps.db.transactions, zoned, spring);
    const { rowsChecked, ...report } = await verifyTenant(api.deps.db.transactions, zoned, spring);
    expect(report).toMatchObject({ differing: 0, waiting: 0 });
    expect(rowsChecked).toBeGreaterThan(0);
  });

  test("stands when processes disagree about the year", async () => {
    const days = Array.from({ length: 12 }, (_, month) => `2007-${String(month + 1).padStart(2, "0")}-10`);
    const others = [createTestDeps(api.config), createTestDeps(api.config)];
    await Promise.all(
      [Date.UTC(2008, 11, 31), Date.UTC(2009, 0, 1)].flatMap((nowMs, n) =>
        days.map((day) => ensurePartitions(others[n]?.db.write as never, [day], nowMs)),
      ),
    );
    await bulk(days.map((day) => eventInput({ timestamp: `${day}T00:00:00Z` })));
    expect(Object.values(await placed()).reduce((sum, n) => sum + n)).toBe(12);
  });

  test("of the coming months is made ahead, and has the parent's indexes", async () => {
    const keeper = createPartitionKeeper(api.deps, "keeper");
    const next = new Date(Date.now());
    next.setUTCMonth(next.getUTCMonth() + 2, 1);
    const name = `events_${next.toISOString().slice(0, 7).replace("-", "_")}`;
    await api.sql`drop table if exists ${api.sql(name)}`;
    await keeper.runOnce();
    expect(await names()).toContain(name);
    const rows = await api.sql`select tablename as name, count(*)::int as n from pg_indexes
      where tablename ~ '^events_[0-9]{4}' group by 1`;
    expect(new Set(rows.map((row) => row.n))).toEqual(new Set([5]));
  });
});

test("is made at need, by several processes at once", async () => {
  const others = [createTestDeps(api.config), createTestDeps(api.config)];
  const months = [0, 1, 2, 3, 4, 5].map((n) => Date.UTC(2011 + n, n, 15));
  await Promise.all(
    [api.deps, ...others].flatMap(({ events }) =>
      months.map((timestamp) => events.createEvent(contextOf(tenant), eventInput({ timestamp }))),
    ),
  );
  expect(await placed()).toEqual(Object.fromEntries(months.map((_, n) => [`events_${2011 + n}`, 3])));
});

test("one that retention dropped is made again", async () => {
  const json = eventInput({ timestamp: Date.UTC(2018, 5, 15) });
  await api.call("POST", "/events", { as: tenant.key, json });
  await api.sql`drop table events_2018`;
  expect((await api.call("POST", "/events", { as: tenant.key, json })).status).toBe(202);
  expect(await placed()).toEqual({ events_2018: 1 });
});

test("one bulk over three hundred months makes a partition a year", async () => {
  const fresh = await createTestApi({ EVENT_MAX_AGE_DAYS: "36500" });
  const shop = await createTenant(fresh);
  const before = (await names(fresh.sql)).length;
  const events = Array.from({ length: 300 }, (_, n) => eventInput({ timestamp: Date.UTC(2000, n, 10) }));
  const { status, body } = await fresh.call("POST", "/events/bulk", { as: shop.key, json: { events } });
  expect([status, body.inserted]).toEqual([202, 300]);
  expect((await names(fresh.sql)).length - before).toBeLessThanOrEqual(25);
}, 60_000);

describe("the age of live events", () => {
  const AGE_DAYS = 30;
  const tooOld = () => Date.now() - (AGE_DAYS + 1) * DAY_MS;
  let strict: TestApi;
  let shop: TestTenant;
  beforeAll(async () => {
    strict = await createTestApi({ EVENT_MAX_AGE_DAYS: String(AGE_DAYS) });
  });
  beforeEach(async () => {
    shop = await createTenant(strict);
  });

  const send = (as: string, timestamp: number) =>
    strict.call("POST", "/events", { as, json: eventInput({ timestamp }) });

  test("is bounded by the setting, and the refusal says by how much and what to do", async () => {
    expect((await send(shop.key, Date.now() - (AGE_DAYS - 1) * DAY_MS)).status).toBe(202);
    const { status, body } = await send(shop.key, tooOld());
    expect(status).toBe(400);
    expect(body.errors).toMatchObject([{ path: "timestamp", code: "too_old" }]);
    expect(body.errors[0].message).toContain(`more than ${AGE_DAYS} days ago`);
    expect(body.errors[0].message).toContain("footfall import");
  });

  test("is bounded by the tenant's retention where that is stricter", async () => {
    shop = await createTenant(strict, { event_retention_days: 7 });
    const { status, body } = await send(shop.key, Date.now() - 8 * DAY_MS);
    expect([status, body.errors[0].code]).toEqual([400, "too_old"]);
    expect(body.errors[0].message).toContain("older than the 7 days for which this tenant keeps events");
    shop = await createTenant(strict, { event_retention_days: 365 });
    expect((await send(shop.key, tooOld())).body.errors[0].message).toContain("footfall import");
  });

  test("refuses the old ones of a bulk, and no others", async () => {
    const events = [eventInput(), eventInput({ timestamp: tooOld() }), eventInput()];
    const { body } = await strict.call("POST", "/events/bulk", { as: shop.key, json: { events } });
    expect(body).toMatchObject({ inserted: 2, rejected: 1, errors: [{ index: 1, code: "too_old" }] });
  });

  test("is not that of imports", async () => {
    const line = JSON.stringify(eventInput({ timestamp: "2001-05-05T10:00:00Z" }));
    const imported = await importFile(strict, shop, await createFiles()("old.ndjson", line));
    expect(imported).toMatchObject({ exitCode: 0 });
    const [row] = await strict.sql`select count(*)::int as n from events where tenant_id = ${shop.tenantId}`;
    expect(row?.n).toBe(1);
  });

  test("is a setting that has to make sense", async () => {
    const { exitCode, stderr } = await runFootfall(["serve"], { ...strict.env, EVENT_MAX_AGE_DAYS: "0" });
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("EVENT_MAX_AGE_DAYS");
  });
});

describe("reading a history of thirty years", () => {
  /** The newest ones are close together, the others years apart. */
  const AGES_DAYS = [0, 0, 0, 0, 0, 0, 0, 1, 30, 31, 32, 40, 300, 366, 367, 800, 3_000, 6_000, 9_000];
  let now: number;
  beforeEach(async () => {
    now = Date.now() - 60_000;
    await bulk(
      AGES_DAYS.map((days, n) =>
        eventInput({
          timestamp: now - days * DAY_MS,
          userId: `u-${n % 3}`,
          sessionId: `s-${n % 2}`,
          productId: `p-${n % 4}`,
          type: n % 5 === 0 ? "click" : "view",
        }),
      ),
    );
  });

  const list = async (query: Record<string, string | number>) => {
    const search = new URLSearchParams(
      Object.entries(query).map(([key, value]): [string, string] => [key, String(value)]),
    );
    const { status, body } = await api.call("GET", `/events?${search}`, { as: tenant.key });
    expect(status).toBe(200);
    return body;
  };

  test("lists hold every event once, in order, whatever the pages and the filters", async () => {
    const all = (await list({ limit: 100 })).items as { id: string; userId: string; timestamp: string }[];
    expect(all.length).toBe(AGES_DAYS.length);
    expect(all.map(({ timestamp }) => now - Date.parse(timestamp))).toEqual(
      AGES_DAYS.map((days) => days * DAY_MS),
    );
    for (const limit of [1, 3, 5]) {
      const ids: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const page: { items: { id: string }[]; nextCursor: string | null } = await list({
          limit,
          ...(cursor === "" ? {} : { cursor }),
        });
        ids.push(...page.items.map(({ id }) => id));
        cursor = page.nextCursor;
      }
      expect(ids).toEqual(all.map(({ id }) => id));
    }
    const idsOf = (items: { id: string }[]) => items.map(({ id }) => id);
    const byUser = await list({ userId: "u-1", limit: 100 });
    expect(idsOf(byUser.items)).toEqual(idsOf(all.filter(({ userId }) => userId === "u-1")));
    for (const [from, to] of [
      [2, 8],
      [0, 19],
      [10, 11],
      [14, 18],
    ] as const) {
      // The younger end is not included, the older one is.
      const query = { to: all[from]?.timestamp ?? "", from: all[to - 1]?.timestamp ?? "", limit: 100 };
      const expected = all.filter(({ timestamp }) => timestamp < query.to && timestamp >= query.from);
      expect(idsOf((await list(query)).items)).toEqual(idsOf(expected));
    }
    expect((await list({ from: "2999-01-01T00:00:00Z" })).items).toEqual([]);
    expect((await list({ to: "1980-01-01T00:00:00Z" })).items).toEqual([]);
    const exported = await api.call("GET", "/events/export", { as: tenant.key });
    expect(exported.body.trimEnd().split("\n").length).toBe(AGES_DAYS.length + 1);
  });

  test("asks the partitions of its time only", async () => {
    await rollUpAll(api);
    const { items } = await list({ limit: 100 });
    const [newest] = items;
    const days = (ms: number) => new Date(ms).toISOString().slice(0, 10);
    const week = `startDate=${days(now - 7 * DAY_MS)}&endDate=${days(now)}`;
    const questions = [
      "/events?limit=3",
      "/events?limit=1&userId=u-0",
      "/events?limit=1&sessionId=s-0",
      "/events?limit=1&productId=p-0",
      "/events?limit=1&type=click",
      `/events?from=${items[2].timestamp}`,
      `/events/${newest.id}`,
      `/analytics/funnel?${week}&windowHours=24&steps=view,click`,
      `/analytics/funnel?${week}&windowHours=24&steps=view,view`,
      `/analytics/summary?${week}&timeZone=Asia/Kathmandu`,
      "/analytics/realtime",
    ];
    for (const question of questions) {
      const scanned = await partitionsAskedBy(question);
      expect(scanned.length, `${question} asks ${scanned}`).toBeGreaterThan(0);
      expect(scanned.length, `${question} asks ${scanned}`).toBeLessThanOrEqual(3);
    }
  });

  /** Partitions in the plans of what the application really asks for an answer. */
  async function partitionsAskedBy(path: string): Promise<string[]> {
    const asked: { text: string; parameters: unknown[] }[] = [];
    const { options } = api.deps.db.read as unknown as { options: { debug: unknown } };
    options.debug = (_connection: number, text: string, parameters: unknown[]) =>
      asked.push({ text, parameters });
    const { status } = await api.call("GET", path, { as: tenant.key });
    options.debug = false;
    expect(status).toBe(200);
    const partitions = new Set<string>();
    for (const { text, parameters } of asked.filter((one) => /from "?events"?\s/.test(one.text))) {
      const [row] = await api.sql.unsafe(`explain (format json) ${text}`, parameters as never);
      const walk = (node: Record<string, unknown>) => {
        if (/^events_\d/.test(String(node["Relation Name"]))) partitions.add(String(node["Relation Name"]));
        for (const child of (node.Plans ?? []) as Record<string, unknown>[]) walk(child);
      };
      walk(row?.["QUERY PLAN"][0].Plan);
    }
    return [...partitions];
  }
});

function contextOf({ tenantId }: TestTenant) {
  return {
    tenantId,
    requestId: "test",
    sellerId: null,
    principal: {
      kind: "apiKey",
      keyId: "test",
      tenantId,
      scopes: ["events:write"],
      publishable: false,
    } as const,
  };
}
