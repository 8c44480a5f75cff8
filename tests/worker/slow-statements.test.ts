/**
 * A statement that takes too long says nothing against its batches: it never makes them dead
 * letters.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "../../src/db/client.ts";
import { createRollupRetries, createRollupService } from "../../src/features/rollups/index.ts";
import { createTenant, createTestApi, eventInput, rollUpAll, type TestApi } from "../factories.ts";
import { cleanup, onCleanup } from "../harness.ts";

let api: TestApi;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

/**
 * One batch that waits, roll-ups by a client with a short timeout, and what the ledger says of the
 * batch.
 */
async function stage(setting: string) {
  const tenant = await createTenant(api);
  await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
  const options = { url: api.config.databaseUrl, prepare: true, applicationName: "impatient" };
  const impatient = connect(options, 1, 0, { [setting]: "50ms" });
  onCleanup(() => impatient.end());
  const { log, metrics } = api.deps;
  const db = { ...api.deps.db, rollup: impatient };
  const rollups = createRollupService({ db, log, metrics });
  const waiting = await rollups.findOverdue(-1_000, 10);
  expect(waiting).toHaveLength(1);
  const ledger = () => api.sql`
    select attempts, dead_lettered_at from event_batches where tenant_id = ${tenant.tenantId}`;
  return { rollups, retries: createRollupRetries({ ...api.deps, db, rollups }), waiting, ledger };
}

/** As a rebuild does. */
async function whileLocked(work: () => Promise<void>): Promise<void> {
  await api.sql.begin(async (tx) => {
    await tx`lock table product_daily_stats in share row exclusive mode`;
    await work();
  });
}

const UNTRIED = [{ attempts: 0, dead_lettered_at: null }];

test("a lock that does not come free", async () => {
  const { rollups, waiting, ledger } = await stage("lock_timeout");
  await whileLocked(async () => {
    for (let tries = 0; tries < 7; tries += 1)
      await expect(rollups.rollUp(waiting)).rejects.toThrow(/timeout/);
  });
  expect([...(await ledger())]).toEqual(UNTRIED);
  expect(await rollUpAll(api)).toBe(1);
});

test("a statement that takes too long: its tenant is retried alone, later and later", async () => {
  const { rollups, retries, waiting, ledger } = await stage("statement_timeout");
  const due = () => api.sql`update rollup_failures set retry_at = now() where paused`;
  await whileLocked(async () => {
    expect(await rollups.rollUp(waiting)).toBe(0);
    for (let tries = 0; tries < 6; tries += 1) {
      await due();
      expect(await retries.retryDue()).toBe(0);
    }
  });
  expect([...(await ledger())]).toEqual(UNTRIED);
  const [row] = await api.sql`select failures from rollup_failures where paused`;
  expect(row?.failures).toBe(7);
  await due();
  expect(await api.deps.rollupRetries.retryDue()).toBe(1);
});
