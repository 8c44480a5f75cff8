import { afterAll, beforeAll, expect, test } from "bun:test";
import { createTestApi, type TestApi } from "../factories.ts";
import { cleanup, runFootfall } from "../harness.ts";
import { CLEAN, hashRollups, verify } from "../import/fixtures.ts";

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

const seed = (...options: string[]) => runFootfall(["seed", ...options], api.env);
const ADMIN = { ADMIN_EMAIL: "owner@example.com", ADMIN_PASSWORD: "correct horse battery" };

async function tenantIdOf(slug: string): Promise<string> {
  return (await api.deps.identity.findTenantId(slug)) ?? "";
}

test("fills a tenant, rolls it up, and adds nothing when repeated", async () => {
  const options = ["--tenant", "demo", "--events", "5000", "--days", "10", "--until", "2026-03-01T12:00:00Z"];
  const first = await seed(...options);
  // Progress, once a second: on a busy machine there is some.
  expect(first.stderr.replace(/^demo: \d+ of 5000 events.*\n/gm, "")).toBe("");
  expect(first.stdout).toContain("demo: 5000 events made, 5000 stored, 0 duplicates, 0 rejected");
  expect(first.exitCode).toBe(0);

  const tenantId = await tenantIdOf("demo");
  expect(await verify(api, tenantId)).toEqual(CLEAN);
  const [range] = await api.sql`
    select count(*)::int as events, min(ts) >= '2026-02-19T12:00:00Z' and max(ts) <= '2026-03-01T12:00:00Z' as inside
    from events where tenant_id = ${tenantId}`;
  expect(range).toEqual({ events: 5000, inside: true });

  const before = await hashRollups(api.sql, tenantId);
  expect((await seed(...options)).stdout).toContain("0 stored, 5000 duplicates");
  expect(await hashRollups(api.sql, tenantId)).toEqual(before);
});

test("--once leaves a tenant with events alone", async () => {
  expect((await seed("--tenant", "once", "--events", "100", "--once")).stdout).toContain("100 stored");
  const again = await seed("--tenant", "once", "--events", "100", "--once");
  expect(again).toMatchObject({ exitCode: 0, stderr: "" });
  expect(again.stdout).toBe("once has events already, so nothing was added.\n");
});

test("makes several tenants with shops of their own, administered by ADMIN_EMAIL", async () => {
  const options = ["--tenant", "mall", "--tenants", "3", "--events", "300", "--time-zone", "Asia/Tokyo"];
  expect((await runFootfall(["seed", ...options], { ...api.env, ...ADMIN })).exitCode).toBe(0);
  const found = await api.sql`
    select t.slug, t.time_zone, m.role, u.email,
      (select count(*)::int from events e where e.tenant_id = t.id) as events
    from tenants t join memberships m on m.tenant_id = t.id join users u on u.id = m.user_id
    where t.slug like 'mall%' order by t.slug`;
  const expected = { time_zone: "Asia/Tokyo", role: "admin", email: ADMIN.ADMIN_EMAIL, events: 300 };
  expect([...found]).toEqual(["mall-1", "mall-2", "mall-3"].map((slug) => ({ slug, ...expected })));
  const hashes = await Promise.all(
    found.map(async ({ slug }) => (await hashRollups(api.sql, await tenantIdOf(slug))).event_hourly_stats),
  );
  expect(new Set(hashes).size).toBe(3);
});

test("refuses what makes no sense", async () => {
  for (const [option, value, sentence] of [
    ["--events", "0", "It must be a whole number from 1"],
    ["--users", "many", "It must be a whole number from 1"],
    ["--until", "2999-01-01T00:00:00Z", "It must not be in the future."],
    ["--until", "yesterday", "It must be a time with a time zone (RFC 3339)"],
    ["--time-zone", "Mars/Olympus", "It must be an IANA name such as Europe/Berlin"],
    ["--tenant", "My Shop", "a slug is 1-63 of a-z, 0-9 and -"],
  ] as const) {
    const { exitCode, stdout, stderr } = await seed(option, value);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toContain(sentence);
  }
});
