/** A statement that comes too late says nothing against its batches: they are never dead letters for that. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "../../src/db/client.ts";
import { createRollupService } from "../../src/features/rollups/index.ts";
import { createTenant, createTestApi, eventInput, rollUpAll, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

test.each(["statement_timeout", "lock_timeout"])("%s", async (setting) => {
  const tenant = await createTenant(api);
  await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
  const options = { url: api.config.databaseUrl, prepare: true, applicationName: "impatient" };
  const impatient = connect(options, 1, 0, { [setting]: "50ms" });
  const { db, log, metrics } = api.deps;
  const rollups = createRollupService({ db: { ...db, rollup: impatient }, log, metrics });
  const waiting = await rollups.findOverdue(-1_000, 10);
  expect(waiting).toHaveLength(1);
  await api.sql.begin(async (tx) => {
    await tx`lock table product_daily_stats in share row exclusive mode`;
    for (let tries = 0; tries < 7; tries += 1)
      await expect(rollups.rollUp(waiting)).rejects.toThrow(/timeout/);
  });
  await impatient.end();
  const [ledger] = await api.sql`
    select attempts, dead_lettered_at from event_batches where tenant_id = ${tenant.tenantId}`;
  expect(ledger).toEqual({ attempts: 0, dead_lettered_at: null });
  expect(await rollUpAll(api)).toBe(1);
});
