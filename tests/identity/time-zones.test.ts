/**
 * A time zone is used only if this process and its Postgres have the same clock for it. Every
 * entrance refuses others.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { isTimeZone } from "../../src/core/days.ts";
import { operatorContext } from "../../src/core/principal.ts";
import { findZoneFault } from "../../src/db/time-zones.ts";
import { createAnalyticsService } from "../../src/features/analytics/index.ts";
import { createTimeZones } from "../../src/features/identity/index.ts";
import { createTenantService } from "../../src/features/identity/tenant.ts";
import {
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { rewriting } from "../faults/rewriting.ts";
import { cleanup, runFootfall } from "../harness.ts";

/** The runtime still knows it; the time zone database dropped it in 2020, and Postgres with it. */
const DROPPED = "US/Pacific-New";

let api: TestApi;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

const change = (as: string, json: object) => api.call("PATCH", "/tenants/current", { as, json });
const ask = (as: string, query: string) => api.call("GET", `/analytics/${query}`, { as });

/** A tenant from before zones were compared. */
const holding = (timeZone: string): Promise<TestTenant> => createTenant(api, { time_zone: timeZone });

async function counted({ tenantId }: TestTenant): Promise<number> {
  const [row] = await api.sql`
    select coalesce(sum(events), 0)::int as n from event_hourly_stats where tenant_id = ${tenantId}`;
  return row?.n;
}

/** What the retries do by themselves within seconds. */
async function retryNow(): Promise<number> {
  await api.sql`update rollup_failures set retry_at = now() where retry_at is not null`;
  return api.deps.rollupRetries.retryDue();
}

describe("of all zones that the runtime knows", () => {
  /**
   * Every half year and around each change of clocks in 2025, which is where data of two years
   * differ.
   */
  const INSTANTS = [
    ...Array.from({ length: 54 }, (_, n) => Date.UTC(2000, 6 * n, 15, 12)),
    ...["2025-03-30", "2025-10-26"].flatMap((day) =>
      Array.from({ length: 24 }, (_, hour) => Date.parse(day) + hour * 3_600_000),
    ),
  ];

  async function clockOfPostgres(name: string): Promise<string> {
    const rows = await api.sql<{ text: string }[]>`
      select to_char(to_timestamp(s) at time zone ${name}, 'YYYY-MM-DD HH24:MI:SS') as text
      from unnest(${INSTANTS.map((ms) => ms / 1_000)}::float8[]) with ordinality as at(s, n) order by n`.catch(
      () => [],
    );
    return rows.map(({ text }) => text).join();
  }

  function clockOfRuntime(timeZone: string): string {
    const local = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "medium" });
    return INSTANTS.map((ms) => local.format(ms)).join();
  }

  test("those are refused whose clock is another in Postgres, or none", async () => {
    // Short names are abbreviations to Postgres, with one offset all year.
    const legacy =
      "utc GMT Cuba Singapore PST8PDT EST MST HST EET MET WET CET Z PST IST JST ACT CST AST BST NST SST VST";
    const names = [...Intl.supportedValuesOf("timeZone"), ...legacy.split(" "), DROPPED];
    const wrong: string[] = [];
    let accepted = 0;
    for (const name of names.filter(isTimeZone)) {
      const fault = await api.deps.timeZones.findFault(name);
      const same = (await clockOfPostgres(name)) === clockOfRuntime(name);
      // Refused with the same clock at these instants: it differs at others.
      if (fault === null && !same) wrong.push(name);
      if (fault === null) accepted += 1;
    }
    expect(wrong).toEqual([]);
    expect(accepted).toBeGreaterThan(400);
  }, 60_000);

  test("a zone that Postgres takes for another clock is found", async () => {
    // To Postgres an abbreviation, with one offset all year.
    const fault = await findZoneFault(api.sql, "CET");
    expect(fault).toEqual({
      code: "uncertain_time_zone",
      message: expect.stringContaining("first on 2000-03-26"),
    });
    expect(await findZoneFault(api.sql, "Europe/Paris")).toBeNull();
    expect(await findZoneFault(api.sql, DROPPED)).toMatchObject({ code: "unknown_time_zone" });
  });
});

describe("a Postgres whose clocks change an hour earlier", () => {
  function createZones() {
    let looks = 0;
    const earlier = rewriting(api.deps.db.lookUps, {
      "(at at time zone ": "((at + interval '1 hour') at time zone ",
    });
    const counting = new Proxy(earlier, {
      apply(target, self, args) {
        looks += 1;
        return Reflect.apply(target, self, args);
      },
    });
    return { timeZones: createTimeZones(counting, api.deps.readGuard), looks: () => looks };
  }

  test("has every zone refused that changes its clock, and the others not", async () => {
    const { timeZones } = createZones();
    const { db, rollups } = api.deps;
    const tenant = createTenantService({ db, timeZones, retryRollups: rollups.retryAll });
    const app = createApp({ ...api.deps, tenant }, { ...api.config, version: "test" });
    const { key } = await createTenant(api);
    const patch = async (timeZone: string) => {
      const response = await app.request("/tenants/current", {
        method: "PATCH",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: JSON.stringify({ timeZone }),
      });
      return { status: response.status, body: await response.json() };
    };
    expect(await patch("Europe/Berlin")).toMatchObject({
      status: 400,
      body: {
        code: "invalid_input",
        detail: expect.stringContaining("different rules"),
        errors: [{ path: "timeZone", code: "uncertain_time_zone" }],
      },
    });
    expect((await patch("Asia/Tokyo")).status).toBe(200);
  });

  test("is asked once for a zone, however it is spelled", async () => {
    const { timeZones, looks } = createZones();
    await Promise.all(["Europe/Rome", "europe/rome", "Europe/Rome"].map((name) => timeZones.findFault(name)));
    expect(timeZones.findFault("EUROPE/ROME")).toMatchObject({ code: "uncertain_time_zone" });
    expect(looks()).toBe(1);
    // A name that nobody knows is not asked for.
    expect(timeZones.findFault("Mars/Olympus")).toMatchObject({ code: "unknown_time_zone" });
    expect(looks()).toBe(1);
  });

  test("serves a tenant that has such a zone from before, also when it asks by its name", async () => {
    const { timeZones } = createZones();
    const { db, cache, readGuard, load, readTenantSettings } = api.deps;
    const parts = { sql: db.read, lookUps: db.lookUps, cache, readGuard, load, readTenantSettings };
    const analytics = createAnalyticsService({ ...parts, timeZones });
    const { tenantId } = await holding("Europe/Berlin");
    const ctx = operatorContext(tenantId);
    const summary = (timeZone?: string) => analytics.getSummary(ctx, { groupBy: "day", timeZone });
    expect((await summary()).meta.timeZone).toBe("Europe/Berlin");
    expect((await summary("Europe/Berlin")).meta.timeZone).toBe("Europe/Berlin");
    await expect(summary("Europe/Rome")).rejects.toThrow("different rules");
  });
});

describe("a zone that Postgres does not know", () => {
  const refusal = {
    code: "invalid_input",
    detail: `"${DROPPED}" is a time zone that Postgres does not know. Use the zone's present name.`,
    errors: [{ path: "timeZone", code: "unknown_time_zone" }],
  };

  test("is refused for a tenant", async () => {
    const { key } = await createTenant(api);
    const { status, body } = await change(key, { timeZone: DROPPED });
    expect(status).toBe(400);
    expect(body).toMatchObject(refusal);
    expect((await api.call("GET", "/tenants/current", { as: key })).body.timeZone).toBe("UTC");
  });

  test("is refused for an answer", async () => {
    const { key } = await createTenant(api);
    for (const path of ["summary", "summary/paginated"]) {
      const { status, body } = await ask(key, `${path}?timeZone=${DROPPED}`);
      expect([path, status]).toEqual([path, 400]);
      expect(body).toMatchObject(refusal);
    }
    const json = { metrics: ["events"], dimensions: ["day"], timeZone: DROPPED };
    const { status, body } = await api.call("POST", "/analytics/query", { as: key, json });
    expect(status).toBe(400);
    expect(body).toMatchObject(refusal);
  });

  test.each([
    [
      "import",
      ["import", "tests/data/online-retail-sample.csv", "--preset", "online-retail", "--create-tenant"],
    ],
    ["seed", ["seed", "--events", "10"]],
  ])("is refused by %s, before a tenant is made", async (name, command) => {
    const slug = `new-${name}`;
    const { exitCode, stderr } = await runFootfall(
      [...command, "--tenant", slug, "--time-zone", DROPPED],
      api.env,
    );
    expect(exitCode).toBe(1);
    expect(stderr).toContain(refusal.detail);
    expect(await api.sql`select from tenants where slug = ${slug}`).toHaveLength(0);
  });

  test("is refused by rebuild", async () => {
    const { slug, tenantId } = await createTenant(api);
    const { exitCode, stderr } = await runFootfall(
      ["rebuild", "--tenant", slug, "--time-zone", DROPPED],
      api.env,
    );
    expect(exitCode).toBe(1);
    expect(stderr).toContain(refusal.detail);
    const [row] = await api.sql`select time_zone from tenants where id = ${tenantId}`;
    expect(row?.time_zone).toBe("UTC");
  });
});

describe("a tenant that has a zone from before which Postgres does not know", () => {
  const ingest = ({ key }: TestTenant) => api.call("POST", "/events", { as: key, json: eventInput() });

  test("is told so by analytics", async () => {
    const { key } = await holding(DROPPED);
    for (const path of ["summary", "products/top", "realtime"]) {
      const { status, body } = await ask(key, path);
      expect([path, status, body.errors?.[0]?.code]).toEqual([path, 400, "unknown_time_zone"]);
      expect(body.detail).toContain("An admin can change it");
    }
  });

  test("changes it although it has events, all of which are counted then", async () => {
    const tenant = await holding(DROPPED);
    for (let n = 0; n < 3; n += 1) await ingest(tenant);
    await rollUpAll(api);
    await retryNow();
    // As an older process left it.
    await api.sql`update event_batches set attempts = 5, dead_lettered_at = now() where tenant_id = ${tenant.tenantId}`;
    expect(await counted(tenant)).toBe(0);
    expect((await change(tenant.key, { timeZone: "America/Los_Angeles" })).status).toBe(200);
    // Due without being told so.
    expect(await api.deps.rollupRetries.retryDue()).toBe(3);
    expect(await counted(tenant)).toBe(3);
    expect((await change(tenant.key, { timeZone: "Asia/Tokyo" })).status).toBe(409);
    const { exitCode, stdout } = await runFootfall(["verify", "--tenant", tenant.slug], api.env);
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining("clean")]);
  });

  test("keeps it while days are counted in it, and changes it by rebuild", async () => {
    const tenant = await holding("America/Los_Angeles");
    await ingest(tenant);
    await rollUpAll(api);
    await api.sql`update tenants set time_zone = ${DROPPED} where id = ${tenant.tenantId}`;
    expect((await change(tenant.key, { timeZone: "America/Los_Angeles" })).status).toBe(409);
    await ingest(tenant);
    await rollUpAll(api);
    const { exitCode } = await runFootfall(
      ["rebuild", "--tenant", tenant.slug, "--time-zone", "Europe/Berlin"],
      api.env,
    );
    expect(exitCode).toBe(0);
    expect(await api.deps.rollupRetries.retryDue()).toBe(1);
    expect(await counted(tenant)).toBe(2);
  });

  test("keeps no other from being verified or rebuilt", async () => {
    const [first, last] = [await createTenant(api), await createTenant(api)];
    await api.sql`update tenants set slug = 'aaa' where id = ${first.tenantId}`;
    await api.sql`update tenants set slug = 'zzz', time_zone = 'UTC' where id = ${last.tenantId}`;
    const bad = await holding(DROPPED);
    for (const command of ["verify", "rebuild"]) {
      const { exitCode, stdout } = await runFootfall([command], api.env);
      expect([command, exitCode]).toEqual([command, 1]);
      expect(stdout).toMatch(/^aaa: (clean|rebuilt)/m);
      expect(stdout).toMatch(/^zzz: (clean|rebuilt)/m);
      expect(stdout).toContain(`footfall rebuild --tenant ${bad.slug} --time-zone <zone>`);
    }
  });
});
