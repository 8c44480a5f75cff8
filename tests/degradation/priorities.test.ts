/**
 * X-Priority: who has which one, what it gains while others wait, and that no priority gets past
 * other tenants.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { grantedPriority, type Role, type Scope } from "../../src/core/principal.ts";
import type { Priority } from "../../src/core/priority.ts";
import { LOAD_LEVELS } from "../../src/resilience/load-level.ts";
import { createReadGuard } from "../../src/resilience/read-guard.ts";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const ends: (() => void)[] = [];
/** The application's own monitor, set by hand: as many requests in flight as the level needs. */
function setLevel(step: number): void {
  const { load } = api.deps;
  for (const end of ends.splice(0)) end();
  const pressure = step === 0 ? 0 : api.config.load.inFlight * 2 ** (step - 1);
  for (let count = 0; count < pressure; count += 1) ends.push(load.begin());
  for (let samples = 0; samples < 20; samples += 1) load.runOnce();
}

const ask = (priority: string | null, as = tenant.key, path = "/events?limit=1") =>
  api.app.request(path, {
    headers: { authorization: `Bearer ${as}`, ...(priority === null ? {} : { "x-priority": priority }) },
  });
const outcomeOf = (work: Promise<unknown>) =>
  work.then(
    () => "answered",
    (error) => error.code as string,
  );

test("the read guard refuses no critical read while lower ones wait, and none of a tenant that holds less than its share", async () => {
  const guard = createReadGuard({ maxReads: 6, probe: async () => "there" });
  const gate = Promise.withResolvers<void>();
  const ask = (tenantId: string, priority: Priority) =>
    outcomeOf(guard.run(() => gate.promise, { tenantId, priority }));
  const low = Array.from({ length: 24 }, () => ask("one", "low"));
  const other = Array.from({ length: 3 }, () => ask("two", "low"));
  const critical = Array.from({ length: 192 }, () => ask("one", "critical"));
  const oneMore = ask("one", "critical");
  gate.resolve();
  const outcomesOf = async (asked: Promise<string>[]) => {
    const outcomes = await Promise.all(asked);
    return [
      outcomes.filter((one) => one === "answered").length,
      outcomes.filter((one) => one === "overloaded").length,
    ];
  };
  expect(await outcomesOf(critical)).toEqual([192, 0]);
  // Six ran when the first critical one came.
  expect(await outcomesOf(low)).toEqual([6, 18]);
  expect(await outcomesOf(other)).toEqual([3, 0]);
  expect(await oneMore).toBe("overloaded");
  expect(guard.pressure()).toBe(0);
});

test("requests of the staff are answered while a customer floods searches, whatever priority it claims", async () => {
  const { userId } = await createPerson(api, tenant.tenantId, "customer");
  const customer = {
    kind: "user",
    userId,
    tenantId: tenant.tenantId,
    role: "customer",
    sellerId: null,
  } as const;
  const priority = grantedPriority(customer, "high");
  let flooding = true;
  let searches = 0;
  const flood = Array.from({ length: 16 }, async () => {
    while (flooding) {
      await api.deps.readGuard.run(() => api.deps.db.read`select pg_sleep(0.02)`, { ...tenant, priority });
      searches += 1;
    }
  });
  await eventually(() => searches > 16);
  const admin = await createPerson(api, tenant.tenantId, "admin");
  const asked = [201, 202, 203, 204].map((days) => ask(null, admin.token, `/analytics/summary?days=${days}`));
  const answers = await Promise.race([Promise.all(asked), Bun.sleep(8_000)]);
  const before = searches;
  await eventually(() => searches > before);
  flooding = false;
  await Promise.all(flood);
  expect(answers?.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
}, 30_000);

test("requests that would be refused get the place of a lower one that was let in before and still waits", async () => {
  const gate = Promise.withResolvers<void>();
  const asked = (priority: Priority) =>
    outcomeOf(api.deps.readGuard.run(() => gate.promise, { ...tenant, priority }));
  const running = Array.from({ length: 6 }, () => asked("low"));
  const waiting = asked("low");
  setLevel(LOAD_LEVELS.indexOf("refuse_all"));
  const letIn = ask("critical");
  expect(await waiting).toBe("overloaded");
  expect((await ask("critical")).status).toBe(503);
  setLevel(0);
  gate.resolve();
  expect((await letIn).status).toBe(200);
  expect(new Set(await Promise.all(running))).toEqual(new Set(["answered"]));
});

test("requests have a priority by who asks, and customers and sellers none above normal", async () => {
  expect((await ask("urgent")).status).toBe(400);
  const { tenantId } = tenant;
  const personOf = async (role: Role) => (await createPerson(api, tenantId, role)).token;
  const keyOf = (scope: Scope) => createKey(api, tenantId, [scope]);
  const path = "/products?limit=1";
  /** The lowest level that refuses each. */
  const refusedAt = async (as: string, priority: string | null) => {
    for (const level of ["refuse_low", "refuse_normal", "refuse_high", "refuse_all"] as const) {
      setLevel(LOAD_LEVELS.indexOf(level));
      if ((await ask(priority, as, path)).status === 503) return level;
    }
    return "never";
  };
  for (const [as, unsaid, claimed] of [
    [await personOf("customer"), "refuse_normal", "refuse_normal"],
    [await personOf("seller"), "refuse_normal", "refuse_normal"],
    [await personOf("analyst"), "refuse_high", "refuse_all"],
    [await personOf("admin"), "refuse_high", "refuse_all"],
    [await keyOf("admin"), "refuse_high", "refuse_all"],
    [await keyOf("products:read"), "refuse_normal", "refuse_all"],
  ] as const) {
    expect([await refusedAt(as, null), await refusedAt(as, "critical")]).toEqual([unsaid, claimed]);
    expect(await refusedAt(as, "low")).toBe("refuse_low");
  }
  setLevel(0);
}, 20_000);
