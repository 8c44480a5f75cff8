/** Expired rows are deleted in bounded rounds, and nothing that still matters goes with them. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { newId } from "../../src/core/ids.ts";
import { pruneIdempotencyKeys } from "../../src/features/idempotency/index.ts";
import { pruneInvitations, pruneRefreshTokens } from "../../src/features/identity/index.ts";
import { createHousekeeping } from "../../worker/jobs/housekeeping.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let people = 0;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  await api.sql`delete from refresh_tokens`;
});
afterAll(cleanup);

const refresh = (refreshToken: string) => api.call("POST", "/auth/refresh", { json: { refreshToken } });

/** The refresh tokens of a session, the first one first. */
async function session(refreshes: number): Promise<string[]> {
  people += 1;
  const json = { email: `session-${people}@example.com`, password: "correct horse battery" };
  const made = [(await api.call("POST", "/auth/register", { json })).body.refreshToken];
  for (let n = 0; n < refreshes; n += 1) made.push((await refresh(made[n])).body.refreshToken);
  return made;
}

const countTokens = async () =>
  (await api.sql<{ n: number }[]>`select count(*)::int as n from refresh_tokens`)[0]?.n;
/** Moves every expiry; tokens of a session end in the order in which they were made. */
const later = (days: number) =>
  api.sql`update refresh_tokens set expires_at = expires_at - ${days} * interval '1 day'`;

describe("refresh tokens", () => {
  test("go by whole sessions, once the last one is over", async () => {
    await session(3);
    expect(await pruneRefreshTokens(api.deps.db.write, 1_000)).toBe(0);
    await later(31.5);
    const [first, last] = await session(1);
    expect(await pruneRefreshTokens(api.deps.db.write, 1_000)).toBe(4);
    expect(await countTokens()).toBe(2);
    expect((await refresh(first ?? "")).status).toBe(401);
    expect((await refresh(last ?? "")).status).toBe(401);
  });

  test("that were used and are over stay while their session lives: using one again ends it", async () => {
    const [first, last] = await session(1);
    await api.sql`update refresh_tokens set expires_at = now() - interval '9 days' where used_at is not null`;
    expect(await pruneRefreshTokens(api.deps.db.write, 1_000)).toBe(0);
    expect((await refresh(first ?? "")).status).toBe(401);
    expect((await refresh(last ?? "")).status).toBe(401);
  });

  test("of a long session go in rounds, the last one last", async () => {
    await session(6);
    await later(40);
    for (const left of [5, 3, 1, 0]) {
      await pruneRefreshTokens(api.deps.db.write, 200);
      expect(await countTokens()).toBe(left);
    }
  });
});

test("invitations go a month after they ran out", async () => {
  const insert = (days: number) => api.sql`
    insert into invitations (tenant_id, id, email, role, expires_at)
    values (${tenant.tenantId}, ${newId()}, 'a@example.com', 'customer', now() - ${days} * interval '1 day')`;
  for (const days of [-1, 1, 29, 31, 32, 400]) await insert(days);
  expect(await pruneInvitations(api.deps.db.write, 2)).toBe(2);
  expect(await pruneInvitations(api.deps.db.write, 2)).toBe(1);
  const left = await api.sql`select expires_at from invitations where tenant_id = ${tenant.tenantId}`;
  expect(left.length).toBe(3);
});

describe("idempotency keys", () => {
  const insert = (key: string, minutes: number) => api.sql`
    insert into idempotency_keys (tenant_id, principal, key, fingerprint, status, expires_at)
    values (${tenant.tenantId}, 'user:a', ${key}, 'f', 201, now() + ${minutes} * interval '1 minute')`;
  const left = async () => {
    const rows =
      await api.sql`select key from idempotency_keys where tenant_id = ${tenant.tenantId} order by key`;
    return rows.map(({ key }) => key);
  };

  test("go when they expire, so many a round", async () => {
    for (const [key, minutes] of [
      ["a", -3],
      ["b", -2],
      ["c", -1],
      ["d", 1],
    ] as const)
      await insert(key, minutes);
    expect(await pruneIdempotencyKeys(api.deps.db.write, 2)).toBe(2);
    expect(await left()).toEqual(["c", "d"]);
    expect(await pruneIdempotencyKeys(api.deps.db.write, 2)).toBe(1);
    expect(await pruneIdempotencyKeys(api.deps.db.write, 2)).toBe(0);
    expect(await left()).toEqual(["d"]);
  });

  test("that are taken into use again while being pruned stay", async () => {
    await insert("again", -1);
    let pruning: Promise<number> | undefined;
    await api.sql.begin(async (tx) => {
      await tx`update idempotency_keys set expires_at = now() + interval '1 day'
        where tenant_id = ${tenant.tenantId} and key = 'again'`;
      pruning = pruneIdempotencyKeys(api.deps.db.write, 10);
      await eventually(async () => {
        const rows = await api.sql`select from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock'`;
        expect(rows.length).toBe(1);
      });
    });
    expect(await pruning).toBe(0);
    expect(await left()).toEqual(["again"]);
  });
});

test("housekeeping does all of it", async () => {
  await session(1);
  await later(40);
  await api.sql`insert into invitations (tenant_id, id, email, role, expires_at)
    values (${tenant.tenantId}, ${newId()}, 'a@example.com', 'customer', now() - interval '90 days')`;
  await api.sql`insert into idempotency_keys (tenant_id, principal, key, fingerprint, status, expires_at)
    values (${tenant.tenantId}, 'user:a', 'k', 'f', 201, now() - interval '1 day')`;
  expect(await createHousekeeping(api.deps, "pruning-test").runOnce()).toBe(4);
});

test("housekeeping goes on until nothing is left, whatever one statement takes", async () => {
  const { tenantId } = tenant;
  const { sql } = api;
  const MORE_THAN_A_STATEMENT = 10_050;
  const SESSIONS = 150;
  await sql`insert into idempotency_keys (tenant_id, principal, key, fingerprint, status, expires_at)
    select ${tenantId}, 'user:a', n::text, 'f', 201, now() - interval '1 day' from generate_series(1, ${MORE_THAN_A_STATEMENT}) n`;
  await sql`insert into invitations (tenant_id, id, email, role, expires_at)
    select ${tenantId}, gen_random_uuid(), n || '@example.com', 'customer', now() - interval '90 days'
    from generate_series(1, ${MORE_THAN_A_STATEMENT}) n`;
  // Some of an endpoint that is gone, some that ended long ago.
  for (const status of ["pending", "succeeded"])
    await sql`insert into webhook_deliveries (tenant_id, id, endpoint_id, event_id, topic, payload, status, created_at, finished_at)
      select ${tenantId}, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'product.created', '{}', ${status},
        now() - interval '40 days', case when ${status} = 'succeeded' then now() - interval '31 days' end
      from generate_series(1, ${MORE_THAN_A_STATEMENT})`;
  await session(0);
  await sql`insert into refresh_tokens (token_hash, family_id, user_id, tenant_id, expires_at)
    select 'hash-' || n, gen_random_uuid(), user_id, tenant_id, now() - interval '9 days'
    from refresh_tokens, generate_series(1, ${SESSIONS}) n`;
  await sql`delete from leases`;
  await createHousekeeping(api.deps, "pruning-test").runOnce();
  const [left] = await sql`select
    (select count(*)::int from idempotency_keys where tenant_id = ${tenantId}) as keys,
    (select count(*)::int from invitations where tenant_id = ${tenantId}) as invitations,
    (select count(*)::int from webhook_deliveries where tenant_id = ${tenantId} and status <> 'failed') as deliveries,
    (select count(*)::int from refresh_tokens) as tokens`;
  expect(left).toEqual({ keys: 0, invitations: 0, deliveries: 0, tokens: 1 });
}, 60_000);
