/** Trying credentials, or asking for the health, costs the stores little. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createSystemService } from "../../src/features/system/index.ts";
import { createKey, createPerson, createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

const LIMIT = 20;

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi({
    RATE_LIMIT_BAD_CREDENTIALS: `${LIMIT}/1h`,
    TRUSTED_PROXIES: "127.0.0.0/8",
  });
});
afterAll(cleanup);

let tried = 0;
const read = (as: string, address: string) =>
  api.call("GET", "/tenants/current", { as, headers: { "x-forwarded-for": address } });
/** Unknown keys and tokens, in turn. */
const tryOne = (address: string) => {
  tried += 1;
  return read(tried % 2 ? `ffs_unknown-${tried}` : `a.b.${tried}`, address);
};

test("bad credentials are counted by address, and above the limit refused before they are looked at", async () => {
  const { tenantId, key } = await createTenant(api);
  const { token } = await createPerson(api, tenantId, "admin");
  const [attacker, neighbour] = ["203.0.113.9", "203.0.113.10"];
  expect((await read(key, attacker)).status).toBe(200);
  const statuses = [];
  for (let n = 0; n < LIMIT + 5; n += 1) statuses.push((await tryOne(attacker)).status);
  expect(statuses).toEqual([...Array(LIMIT).fill(401), ...Array(5).fill(429)]);
  // Not even a valid one is checked, unless it was found good before.
  const refused = await read(token, attacker);
  expect([refused.status, refused.body.code]).toEqual([429, "rate_limited"]);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(60);
  // Longer than a check is remembered: the key is checked again, and still passes.
  await Bun.sleep(2_100);
  expect((await read(key, attacker)).status).toBe(200);
  expect((await read(token, neighbour)).status).toBe(200);
  expect((await tryOne(neighbour)).status).toBe(401);
});

test("a key that was good and is not any more is looked at and counts, too", async () => {
  const { tenantId } = await createTenant(api);
  const key = await createKey(api, tenantId, ["admin"]);
  const address = "203.0.113.20";
  expect((await read(key, address)).status).toBe(200);
  await api.sql`update api_keys set revoked_at = now() where tenant_id = ${tenantId}`;
  await eventually(async () => (await read(key, address)).status === 401);
  for (let n = 1; n < LIMIT; n += 1) await read(key, address);
  expect((await read(key, address)).status).toBe(429);
});

test("good credentials and missing ones are not counted", async () => {
  const { key } = await createTenant(api);
  const address = "203.0.113.30";
  for (let n = 0; n < LIMIT * 2; n += 1) {
    expect((await read(key, address)).status).toBe(200);
    const headers = { "x-forwarded-for": address };
    expect((await api.call("GET", "/tenants/current", { headers })).status).toBe(401);
  }
});

test("however many ask after health and readiness, the database is asked once a second", async () => {
  let asked = 0;
  const sql = new Proxy(api.deps.db.read, {
    apply(target, self, args) {
      asked += 1;
      return Reflect.apply(target, self, args);
    },
  });
  const system = createSystemService({
    sql,
    redis: api.deps.redis,
    version: "test",
    degradation: { ...api.deps, hitRate: () => null },
  });
  const ask = () => Promise.all([system.getHealth(), system.findReasonsNotReady()]);
  await ask();
  const once = asked;
  expect(once).toBeGreaterThan(0);
  const answers = await Promise.all(Array.from({ length: 100 }, ask));
  expect(asked).toBe(once);
  expect(answers[0]?.[0].services.postgres.status).toBe("up");
  await eventually(async () => {
    await ask();
    expect(asked).toBe(2 * once);
  });
  system.announceStop();
  expect(await system.findReasonsNotReady()).toEqual(["this process is stopping"]);
});
