/** A tenant's own time zone by another name is its own time zone, as far as Postgres agrees. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { isTimeZone } from "../../src/core/days.ts";
import { byOwnName } from "../../src/features/analytics/range.ts";
import { createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

test.each([
  ["UTC", ["utc", "Etc/UTC", "GMT", "etc/gmt", "GMT+0"], ["Africa/Abidjan", "Etc/GMT+5"]],
  ["Asia/Kolkata", ["asia/kolkata", "Asia/Calcutta"], ["Asia/Colombo"]],
] as const)("%s by other names goes as far as by its own", async (time_zone, aliases, others) => {
  const { key } = await createTenant(api, { time_zone });
  const ask = (timeZone: string) => {
    const query = new URLSearchParams({ days: "300", timeZone });
    return api.call("GET", `/analytics/summary?${query}`, { as: key });
  };
  for (const timeZone of aliases) {
    const { status, body } = await ask(timeZone);
    expect([timeZone, status, body.meta?.timeZone]).toEqual([timeZone, 200, time_zone]);
  }
  for (const timeZone of others) expect([timeZone, (await ask(timeZone)).status]).toEqual([timeZone, 400]);
});

test("whatever counts as the same zone is the same clock to Postgres", async () => {
  const known = await api.sql<{ name: string }[]>`
    select name from pg_timezone_names where name not like 'posix%' order by name`;
  const names = known.map(({ name }) => name).filter(isTimeZone);
  const days = { from: "1971-01-01", to: "1971-01-02" };
  const ownNameOf = (timeZone: string) =>
    names.find((ownZone) => byOwnName({ ...days, timeZone, ownZone }).timeZone === ownZone) ?? timeZone;
  const groups = [...Map.groupBy(names, ownNameOf).values()].filter(({ length }) => length > 1);
  const aliases = groups.flat();
  expect(aliases.length).toBeGreaterThan(50);
  const clocks = await api.sql<{ name: string; clock: string }[]>`
    select name, md5(string_agg((at at time zone name)::text, ',' order by at)) as clock
    from unnest(${api.sql.array(aliases)}::text[]) as name,
      generate_series('1970-12-31'::timestamptz, '2037-12-31'::timestamptz, '7 days') as at
    group by name`;
  const clockOf = new Map(clocks.map(({ name, clock }) => [name, clock]));
  const differing = groups.filter((group) => new Set(group.map((name) => clockOf.get(name))).size > 1);
  expect(differing).toEqual([]);
}, 30_000);

test("names that were other clocks before 1971 are told apart there", () => {
  const range = { to: "1971-06-01", timeZone: "US/Pacific", ownZone: "America/Los_Angeles" };
  expect(byOwnName({ ...range, from: "1970-06-01" }).timeZone).toBe("US/Pacific");
  expect(byOwnName({ ...range, from: "1971-01-01" }).timeZone).toBe("America/Los_Angeles");
});
