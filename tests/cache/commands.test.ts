/**
 * What a command has changed is not served from the earlier cache. While Redis is away, the command
 * says so.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, runFootfall, spawnFootfall } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  await api.call("POST", "/events", {
    as: tenant.key,
    json: eventInput({ timestamp: "2026-10-25T10:00:00Z" }),
  });
  await rollUpAll(api);
});
afterAll(cleanup);

const rebuild = () => ["rebuild", "--tenant", tenant.slug];

async function ask() {
  const path = "/analytics/products/top?startDate=2026-10-01&endDate=2026-10-31&sortBy=views";
  const { body } = await api.call("GET", path, { as: tenant.key });
  return { cache: body.meta.cache, views: body.items[0]?.views };
}

/** A wrong answer in the cache, for a range whose answers live an hour. */
async function cacheWrongAnswer(): Promise<void> {
  await api.deps.redis.flushall();
  await api.sql`update product_daily_stats set views = views + 7 where tenant_id = ${tenant.tenantId}`;
  await api.sql`update product_period_stats set views = views + 7 where tenant_id = ${tenant.tenantId}`;
  expect(await ask()).toEqual({ cache: "miss", views: 8 });
  expect(await ask()).toEqual({ cache: "hit", views: 8 });
}

test("a command waits for Redis to come back, and the old answers are gone", async () => {
  await cacheWrongAnswer();
  api.redis.pause();
  const command = spawnFootfall(rebuild(), api.env);
  try {
    await eventually(() => command.stdout().includes("rebuilt"), { timeoutMs: 20_000 });
  } finally {
    api.redis.resume();
  }
  expect(await command.exited).toBe(0);
  expect(command.stderr()).not.toContain("Redis does not answer");
  expect((await ask()).views).toBe(1);
}, 40_000);

test("a command that Redis does not answer says what may be served for how long, and succeeds", async () => {
  await cacheWrongAnswer();
  api.redis.pause();
  const { exitCode, stdout, stderr } = await runFootfall(rebuild(), api.env).finally(() =>
    api.redis.resume(),
  );
  expect(exitCode).toBe(0);
  expect(stdout).toContain("rebuilt");
  expect(stderr).toContain("may be served for up to an hour");
}, 40_000);

test("a command that owes nothing does not wait", async () => {
  api.redis.pause();
  const { exitCode, stderr } = await runFootfall(["verify", "--tenant", tenant.slug], api.env).finally(() =>
    api.redis.resume(),
  );
  expect({ exitCode, warned: stderr.includes("hour") }).toEqual({ exitCode: 0, warned: false });
}, 40_000);
