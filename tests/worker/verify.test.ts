/**
 * G4: `verify` finds any row that is wrong, `rebuild` mends it, and both may run while events come
 * in.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { classifyFailure } from "../../src/db/failures.ts";
import { MIGRATION_FILES } from "../../src/db/migrations.ts";
import { rebuildTenant, type VerifyReport, verifyTenant } from "../../src/features/rollups/index.ts";
import { createTenant, createTestApi, rollUpAll, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, runFootfall } from "../harness.ts";
import { ingestShop } from "./shop-data.ts";

const ZONE = "Europe/Berlin";

let api: TestApi;
let tenant: TestTenant;
let neighbour: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api, { time_zone: ZONE });
  neighbour = await createTenant(api, { time_zone: "Asia/Kolkata" });
  await ingestShop(api, tenant, 7);
  await ingestShop(api, neighbour, 8, 3);
  await rollUpAll(api);
});
afterAll(cleanup);

const zoned = () => ({ tenantId: tenant.tenantId, timeZone: ZONE });
const verify = (range = {}) => verifyTenant(api.deps.db.transactions, zoned(), range);
const rebuild = (range = {}) => rebuildTenant(api.deps.db.transactions, zoned(), range);

function expectClean(report: VerifyReport): void {
  expect(report).toMatchObject({ differences: [], differing: 0, waiting: 0, dead: 0 });
  expect(report.rowsChecked).toBeGreaterThan(100);
}

test("honest rollups are clean", async () => {
  expectClean(await verify());
});

const TABLES = [
  "product_daily_stats",
  "product_period_stats",
  "user_daily_stats",
  "buyer_daily_stats",
  "session_daily_stats",
  "event_hourly_stats",
  "event_daily_stats",
  "property_daily_stats",
];

const TIME_COLUMNS: Record<string, string> = { event_hourly_stats: "hour", product_period_stats: "start" };

describe.each(TABLES)("%s", (table) => {
  const counted = table === "buyer_daily_stats" ? "purchases" : "events";
  const one = () => api.sql`select ctid from ${api.sql(table)} where tenant_id = ${tenant.tenantId}
    and ${api.sql(counted)} > 0 order by random() limit 1`;
  const tamperings: [string, () => PromiseLike<unknown>][] = [
    [
      "one event more",
      () =>
        api.sql`update ${api.sql(table)} set ${api.sql(counted)} = ${api.sql(counted)} + 1 where ctid in (${one()})`,
    ],
    ["a row too few", () => api.sql`delete from ${api.sql(table)} where ctid in (${one()})`],
    [
      "a row too many",
      // A neighbour's row, on a day on which nothing happened.
      () => api.sql`update ${api.sql(table)}
        set tenant_id = ${tenant.tenantId}, ${api.sql(TIME_COLUMNS[table] ?? "day")} = '2026-11-15'
        where ctid in (select ctid from ${api.sql(table)} where tenant_id = ${neighbour.tenantId} limit 1)`,
    ],
  ];
  if (!["session_daily_stats", "buyer_daily_stats"].includes(table))
    tamperings.push([
      "a ten-thousandth of revenue",
      () => api.sql`update ${api.sql(table)} set revenue = revenue + 0.0001 where ctid in (${one()})`,
    ]);

  test.each(tamperings)("%s is found and mended", async (name, tamper) => {
    await tamper();
    const report = await verify();
    expect(report.differences.map((difference) => difference.table)).toEqual([table]);
    expect(report.differing).toBe(1);
    const [difference] = report.differences;
    expect(difference?.actual === null).toBe(name === "a row too few");
    expect(difference?.expected === null).toBe(name === "a row too many");
    await rebuild();
    expectClean(await verify());
    await rebuildTenant(
      api.deps.db.transactions,
      { tenantId: neighbour.tenantId, timeZone: "Asia/Kolkata" },
      {},
    );
  });
});

test("migrations that brought a rollup fill it from what was counted before", async () => {
  const fills = Object.values(MIGRATION_FILES)
    .flatMap((text) => text.split("--> statement-breakpoint"))
    .flatMap(
      (statement) =>
        /^(?:--.*\n|\s)*INSERT INTO "(\w+_stats)"/
          .exec(statement)
          ?.slice(1, 2)
          .map((table) => [table, statement]) ?? [],
    );
  expect(fills.map(([table]) => table)).toEqual([
    "event_daily_stats",
    "product_period_stats",
    "buyer_daily_stats",
    "daily_return_stats",
  ]);
  for (const [table = "", statement = ""] of fills) {
    // Pairs of days were counted before, but not the days themselves.
    const isNew = table === "daily_return_stats" ? api.sql`previous_day = 'infinity'` : api.sql`true`;
    await api.sql`delete from ${api.sql(table)} where ${isNew}`;
    // Pairs of days were not counted before their table existed.
    if (table === "buyer_daily_stats") await api.sql`delete from daily_return_stats where subject = 'buyer'`;
    expect((await verify()).differing).toBeGreaterThan(0);
    await api.sql.unsafe(statement);
    expectClean(await verify());
  }
});

test("a wrong count of accepted events is found", async () => {
  const { tenantId } = tenant;
  await api.sql`update ingest_hourly_stats set stored = stored + 1 where tenant_id = ${tenantId}`;
  const report = await verify();
  expect(report.differences[0]?.table).toBe("ingest_hourly_stats");
  await api.sql`update ingest_hourly_stats set stored = stored - 1 where tenant_id = ${tenantId}`;
  await api.sql`update ingest_hourly_stats set rejected = rejected + 1 where tenant_id = ${tenantId}`;
  expect((await verify()).differing).toBeGreaterThan(0);
  await api.sql`update ingest_hourly_stats set rejected = rejected - 1 where tenant_id = ${tenantId}`;
  expectClean(await verify());
});

test("a vanished event is found", async () => {
  const [gone] = await api.sql`delete from events where (tenant_id, ts, id) in (
    select tenant_id, ts, id from events where tenant_id = ${tenant.tenantId} and product_id is not null limit 1) returning *`;
  const report = await verify();
  const tables = new Set(report.differences.map((difference) => difference.table));
  expect(tables).toContain("product_daily_stats");
  expect(tables).toContain("ingest_hourly_stats");
  await api.sql`insert into events ${api.sql(gone as Record<string, never>)}`;
  expectClean(await verify());
});

test("a range is compared and rebuilt by itself", async () => {
  await api.sql`update product_daily_stats set events = 0 where tenant_id = ${tenant.tenantId}`;
  const [row] = await api.sql`select count(*)::int as n from product_daily_stats
    where tenant_id = ${tenant.tenantId} and day = '2026-10-25'`;
  const day = { from: "2026-10-25", to: "2026-10-25" };
  expect((await verify(day)).differing).toBe(row?.n);
  await rebuild(day);
  expect((await verify(day)).differing).toBe(0);
  expect((await verify()).differing).toBeGreaterThan(0);
  await rebuild();
  expectClean(await verify());
});

describe("the command", () => {
  const run = (...command: string[]) => runFootfall([...command, "--tenant", tenant.slug], api.env);

  test("exits 0 when clean", async () => {
    const { exitCode, stdout } = await run("verify");
    expect(stdout).toMatch(new RegExp(`^${tenant.slug}: clean, \\d+ rows compared.\n$`));
    expect(exitCode).toBe(0);
  });

  test("exits 1 on a difference and prints both sides; rebuild mends it and the cached answers", async () => {
    const top = async () => {
      const query = "startDate=2026-10-25&endDate=2026-10-25&sortBy=views&limit=50";
      const { body } = await api.call("GET", `/analytics/products/top?${query}`, { as: tenant.key });
      return body.items;
    };
    const honest = await top();
    await api.sql`update product_daily_stats set views = views + 7
      where tenant_id = ${tenant.tenantId} and product_id = 'p-3' and day = '2026-10-25'`;
    await api.deps.redis.flushall();
    expect(await top()).not.toEqual(honest);
    const found = await run("verify");
    expect(found.exitCode).toBe(1);
    expect(found.stdout).toMatch(
      /product_daily_stats day=2026-10-25 product_id=p-3\n {2}raw events say views=(\d+)\n/,
    );
    expect(found.stdout).toContain("1 of ");
    const rebuilt = await run("rebuild");
    expect(rebuilt).toMatchObject({ exitCode: 0 });
    expect((await run("verify")).exitCode).toBe(0);
    expect(await top()).toEqual(honest);
  });

  test("refuses what is no day, and a tenant that is none", async () => {
    expect((await run("verify", "--from", "2026-02-30")).exitCode).not.toBe(0);
    const { exitCode, stderr } = await runFootfall(["rebuild", "--tenant", "nobody"], api.env);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('There is no tenant "nobody"');
  });
});

test("rebuild --time-zone moves the days, and the audit log says so", async () => {
  const { tenantId, slug, key } = neighbour;
  const timeZone = "Asia/Tokyo";
  const { exitCode } = await runFootfall(["rebuild", "--tenant", slug, "--time-zone", timeZone], api.env);
  expect(exitCode).toBe(0);
  expectClean(await verifyTenant(api.deps.db.transactions, { tenantId, timeZone }, {}));
  const [entry] = (await api.call("GET", "/audit", { as: key })).body.items;
  expect(entry).toMatchObject({
    actorKind: "operator",
    action: "tenant.updated",
    target: tenantId,
    before: { timeZone: "Asia/Kolkata" },
    after: { timeZone },
  });
});

test("rebuilding and verifying while events come in and are rolled up", async () => {
  let over = false;
  const ingest = async () => {
    // With pauses: the slower a machine recounts, the more there would be to recount.
    for (let seed = 100; !over; seed += 1) {
      await ingestShop(api, tenant, seed, 2);
      await Bun.sleep(100);
    }
  };
  const roll = async () => {
    // A rebuild may hold its lock for longer than a roll-up waits. The next round takes the batches
    // then.
    while (!over)
      await rollUpAll(api).catch((error) => {
        if (classifyFailure(error) !== "locked") throw error;
      });
  };
  const recount = async () => {
    for (let round = 0; round < 10; round += 1) {
      await rebuild();
      expect((await verify()).differences).toEqual([]);
    }
  };
  const recounting = recount().finally(() => {
    over = true;
  });
  await Promise.all([ingest(), roll(), roll(), recounting]);
  await rollUpAll(api);
  expectClean(await verify());
}, 120_000);
