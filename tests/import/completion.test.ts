/**
 * An import ends with rollups that are ready to answer fast. Steps that only serve speed never fail
 * it.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CLEAN, importFile, SAMPLE, verify } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const importSample = () => importFile(api, tenant, SAMPLE, "--preset", "online-retail");

async function countMemberDays(): Promise<{ days: number; unfolded: number }> {
  const rows = await api.sql<{ folded: boolean }[]>`
    select folded from user_daily_stats where tenant_id = ${tenant.tenantId}
    union all select folded from buyer_daily_stats where tenant_id = ${tenant.tenantId}
    union all select folded from session_daily_stats where tenant_id = ${tenant.tenantId}`;
  return { days: rows.length, unfolded: rows.filter(({ folded }) => !folded).length };
}

test("with nothing unfolded and the rollups analyzed", async () => {
  expect((await importSample()).exitCode).toBe(0);
  const { days, unfolded } = await countMemberDays();
  expect(days).toBeGreaterThan(100);
  expect(unfolded).toBe(0);
  const [table] = await api.sql`select reltuples from pg_class where relname = 'daily_return_stats'`;
  expect(table?.reltuples).toBeGreaterThan(0);
});

test("though folding and analyzing wait in vain for a lock", async () => {
  const { exitCode, stdout, stderr } = await api.sql.begin(async (tx) => {
    await tx`select pg_advisory_xact_lock(hashtextextended(${`returns user ${tenant.tenantId}`}, 0))`;
    // Stops who analyzes, and nobody who writes.
    await tx`lock table daily_return_stats in share update exclusive mode`;
    return importSample();
  });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("300 stored");
  expect(stderr).toContain("Questions about unique users are slower");
  expect(stderr).toContain("until Postgres has analyzed the rollups by itself");
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
  await api.deps.returnsFolder.fold();
  expect((await countMemberDays()).unfolded).toBe(0);
}, 60_000);

test("with what a failure has paused before, and where that goes on failing it says how much waits", async () => {
  const { tenantId } = tenant;
  await api.sql`update tenants set time_zone = 'Nowhere/Land' where id = ${tenantId}`;
  const failed = await importSample();
  expect(failed.stderr).toMatch(/^\d+ batches? could not be rolled up; a running worker tries/m);
  await api.sql`update tenants set time_zone = 'UTC' where id = ${tenantId}`;
  await api.sql`update rollup_failures set retry_at = now() + interval '1 hour' where tenant_id = ${tenantId}`;
  // Nothing new: it ends what the first one began.
  const { exitCode, stderr } = await importSample();
  expect(exitCode).toBe(0);
  expect(stderr).not.toContain("could not be rolled up");
  expect(await verify(api, tenantId)).toEqual(CLEAN);
});
