/**
 * An event that can't be handled holds up later events of its subject, nothing else, and not for
 * ever.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { emit } from "../notifications/stage.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

/**
 * Until it is cured, Postgres refuses the notifications of one subject of the tenant whose price is
 * 13.
 */
async function poison(): Promise<() => Promise<unknown>> {
  await api.sql.unsafe(`alter table notifications add constraint poison
    check (tenant_id <> '${tenant.tenantId}' or payload->>'price' <> '13') not valid`);
  return () => api.sql.unsafe("alter table notifications drop constraint poison");
}

const emitAll = (changes: readonly [subjectId: string, price: number][]) =>
  emit(
    api,
    tenant,
    changes.map(([subjectId, price]) => ({ subjectId, payload: { price } })),
  );

const handle = (deps = api.deps, tenantIds = [tenant.tenantId]) =>
  deps.outbox.handleWaiting(tenantIds, deps.notifications.domainHandler);

async function told(tenantId = tenant.tenantId): Promise<string[]> {
  const rows = await api.sql`
    select subject_id || ' ' || (payload->>'price') as told from notifications
    where tenant_id = ${tenantId} order by position`;
  return rows.map((row) => row.told);
}

/** Waits are rounded up to ten seconds, since a busy machine may take one of them to ask. */
async function failure() {
  const [row] = await api.sql`
    select attempts, error, died_at is not null as dead, event->'payload'->>'price' as price,
      (ceil(extract(epoch from retry_at - now()) / 10) * 10)::int as "retryInSeconds"
    from outbox_failures where tenant_id = ${tenant.tenantId}`;
  return row;
}

const makeRetryDue = () => api.sql`update outbox_failures set retry_at = now() - interval '1 second'`;

const CHANGES: [string, number][] = [
  ["a", 1],
  ["bad", 13],
  ["b", 2],
  ["bad", 14],
  ["bad", 15],
  ["a", 3],
];

describe("an event that Postgres refuses", () => {
  test("holds up its own subject; the others go on in order, and so does it once it is handled", async () => {
    const other = await createTenant(api);
    const cure = await poison();
    try {
      await emitAll(CHANGES);
      await emit(api, other, [{ subjectId: "x", payload: { price: 1 } }]);
      expect((await handle(api.deps, [tenant.tenantId, other.tenantId])).effects).toBe(4);
      expect(await told()).toEqual(["a 1", "b 2", "a 3"]);
      expect(await told(other.tenantId)).toEqual(["x 1"]);
      // Not tried again before its time, and nothing behind it is.
      await emitAll([
        ["bad", 16],
        ["b", 4],
      ]);
      expect((await handle()).effects).toBe(1);
      expect(await failure()).toMatchObject({ attempts: 1, dead: false, price: null, retryInSeconds: 10 });
    } finally {
      await cure();
    }
    await makeRetryDue();
    expect((await handle()).effects).toBe(4);
    expect(await told()).toEqual(["a 1", "b 2", "a 3", "b 4", "bad 13", "bad 14", "bad 15", "bad 16"]);
    expect(await failure()).toBeUndefined();
  });

  test("is announced again when its next try is due", async () => {
    const cure = await poison();
    try {
      await emitAll(CHANGES);
      await api.sql`update outbox set announce_at = now() + interval '1 hour' where tenant_id = ${tenant.tenantId}`;
      await handle();
      const rows = await api.sql`
        select subject_id, announce_at < now() + interval '11 seconds' as soon from outbox
        where tenant_id = ${tenant.tenantId} and undone <> '{}' order by sequence`;
      expect(rows.map(({ subject_id, soon }) => [subject_id, soon])).toEqual([
        ["bad", true],
        ["bad", false],
        ["bad", false],
      ]);
    } finally {
      await cure();
    }
  });

  test("is given up after its tenth try, with its error and what it told; its subject goes on", async () => {
    const cure = await poison();
    const waits: unknown[] = [];
    try {
      await emitAll(CHANGES);
      for (let round = 0; round < 9; round += 1) {
        await handle();
        waits.push((await failure())?.retryInSeconds);
        await makeRetryDue();
      }
      expect(waits).toEqual([10, 20, 40, 80, 160, 320, 600, 600, 600]);
      expect(await told()).toEqual(["a 1", "b 2", "a 3"]);
      expect((await handle()).effects).toBe(2);
      expect(await told()).toEqual(["a 1", "b 2", "a 3", "bad 14", "bad 15"]);
      expect(await failure()).toMatchObject({ attempts: 10, dead: true, price: "13" });
      expect((await failure())?.error).toContain("poison");
      expect(await api.deps.metrics.registry.metrics()).toContain(
        'footfall_domain_events_given_up_total{consumer="notifications"} 1',
      );
    } finally {
      await cure();
    }
    const left = await api.sql`
      select from outbox where tenant_id = ${tenant.tenantId} and 'notifications' = any(undone)`;
    expect(left.length).toBe(0);
  });

  test("is found among many such, which change nobody's order", async () => {
    const cure = await poison();
    const subjects = Array.from({ length: 10 }, (_, n) => `bad-${n}`);
    try {
      await emitAll(
        subjects.flatMap((subject, n): [string, number][] => [
          [subject, 13],
          ["fine", n],
          [subject, 20],
        ]),
      );
      const handler = { ...api.deps.notifications.domainHandler, atOnce: 7 };
      for (let left = [{ tenantId: tenant.tenantId }]; left.length > 0; )
        ({ left } = await api.deps.outbox.handleWaiting([tenant.tenantId], handler));
      expect(await told()).toEqual(subjects.map((_, n) => `fine ${n}`));
    } finally {
      await cure();
    }
    await makeRetryDue();
    await handle();
    for (const subject of subjects)
      expect((await told()).filter((one) => one.startsWith(subject))).toEqual([
        `${subject} 13`,
        `${subject} 20`,
      ]);
  });

  test("is counted once a try by workers that meet", async () => {
    const others = [createTestDeps(api.config), createTestDeps(api.config)];
    const cure = await poison();
    try {
      await emitAll(CHANGES);
      await Promise.all([handle(), ...others.map((deps) => handle(deps))]);
      expect(await failure()).toMatchObject({ attempts: 1 });
      expect(await told()).toEqual(["a 1", "b 2", "a 3"]);
      await makeRetryDue();
      await Promise.all([handle(), ...others.map((deps) => handle(deps))]);
      expect(await failure()).toMatchObject({ attempts: 2 });
    } finally {
      await cure();
    }
  });
});

test("a tenant with a long backlog gives way after a second, and is announced again", async () => {
  const other = await createTenant(api);
  await api.sql`insert into outbox (tenant_id, id, topic, subject_id, payload, undone, created_at, announce_at)
    select ${tenant.tenantId}, gen_random_uuid(), 'product.updated', 'p-' || n, '{}', '{notifications}', now(), now()
    from generate_series(1, 2000) n`;
  await emit(api, other, [{ subjectId: "x", payload: { price: 1 } }]);
  const handled: string[] = [];
  const { left } = await api.deps.outbox.handleWaiting([tenant.tenantId, other.tenantId], {
    ...api.deps.notifications.domainHandler,
    async handle(events) {
      handled.push(...events.map(({ tenantId }) => tenantId));
      await Bun.sleep(600);
      return api.deps.notifications.domainHandler.handle(events);
    },
  });
  // The first look is at both, half of its page for each.
  expect(handled.slice(0, 251).filter((tenantId) => tenantId === other.tenantId).length).toBe(1);
  expect(left.map(({ tenantId }) => tenantId)).toEqual([tenant.tenantId]);
  expect(handled.length).toBeLessThan(2_001);
  // A busy machine may need several turns for the rest.
  let rest = 0;
  for (let more = true; more; ) {
    const turn = await handle();
    rest += turn.effects;
    more = turn.left.length > 0;
  }
  expect(rest + handled.length).toBe(2_001);
});
