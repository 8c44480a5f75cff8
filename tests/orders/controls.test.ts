/**
 * Shows that the tests of orders can fail: each scenario runs as the product is, where the
 * invariant holds, and with one guard removed from a statement on its way to Postgres, where the
 * same check must see it break.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { operatorContext } from "../../src/core/principal.ts";
import type { RunTransaction } from "../../src/db/transaction.ts";
import { createOrderHandling } from "../../src/features/orders/index.ts";
import { createRollupService } from "../../src/features/rollups/index.ts";
import { createTenant, type TestTenant } from "../factories.ts";
import { rewriting } from "../faults/rewriting.ts";
import {
  blockedBackends,
  createStage,
  HOOK_MS,
  holdTable,
  type Stage,
  untilBlocked,
} from "../faults/stage.ts";
import { cleanup, eventually } from "../harness.ts";
import { handleAll, orderInput } from "./shop.ts";
import { expectEffectsOnceInOrder, expectRevenue, expectStock, installWitness, openShop } from "./trade.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await createStage();
  await installWitness(stage);
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

async function openShopWithOrders(count: number): Promise<TestTenant> {
  const tenant = await createTenant(stage);
  await openShop(stage, tenant);
  for (let n = 0; n < count; n += 1)
    await stage.deps.orders.createOrder(
      operatorContext(tenant.tenantId),
      orderInput({ groupId: "g", items: [{ productId: "p20", quantity: 2 }] }) as never,
      undefined,
    );
  return tenant;
}

const both = (name: string, run: (guarded: boolean) => Promise<void>) =>
  describe(name, () => {
    test("holds", () => run(true));
    test("breaks without its guard", () => run(false));
  });

both("two workers that meet at a group have its effects once: the lock of its head", async (guarded) => {
  const { db } = stage.deps;
  const tenant = await openShopWithOrders(3);
  const transaction: RunTransaction = (work) =>
    db.transaction((tx) => work(guarded ? tx : rewriting(tx, { " for update skip locked": "" })));
  const handling = createOrderHandling({ ...stage.deps, db: { ...db, transaction } });
  const release = await holdTable(stage, "order_history");
  const first = handling.handle(tenant.tenantId, ["g"], "first");
  await untilBlocked(stage, "test");
  const second = handling.handle(tenant.tenantId, ["g"], "second");
  // With the lock, the second finds nothing to do. Without it, it waits beside the first, about to
  // do the same.
  if (guarded) expect(await second).toBe(0);
  else await eventually(async () => expect((await blockedBackends(stage, "test")).length).toBe(2));
  await release();
  await Promise.all([first, second]);
  const check = async () => {
    await expectEffectsOnceInOrder(stage, tenant, "control");
    await expectStock(stage, tenant, "control");
  };
  if (guarded) await check();
  else await expect(check()).rejects.toThrow(/no effect happened twice/);
});

both("a sale whose batch is announced twice counts once: the claim on the ledger", async (guarded) => {
  const { db, log, metrics } = stage.deps;
  const tenant = await openShopWithOrders(3);
  await handleAll(stage);
  const unguarded = rewriting(db.rollup, { " and b.rolled_up_at is null": "" });
  const rollups = createRollupService({ db: guarded ? db : { ...db, rollup: unguarded }, log, metrics });
  const batches = await stage.sql<{ tenantId: string; batchId: string }[]>`
    select tenant_id as "tenantId", batch_id as "batchId" from event_batches where tenant_id = ${tenant.tenantId}`;
  expect(batches.length).toBeGreaterThan(0);
  for (let delivery = 0; delivery < 2; delivery += 1) await rollups.rollUp(batches);
  const check = expectRevenue(stage, tenant, "control");
  if (guarded) await check;
  else await expect(check).rejects.toThrow(/analytics revenue = sum of orders/);
});
