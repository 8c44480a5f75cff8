/**
 * Orders under kill -9 of workers, wiped Redis and redeliveries at seeded random points. Small by
 * default; FAULT_ROUNDS=40 is the full size: 10,000 orders over 500 groups and four workers.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ORDER_COMMANDS } from "../../src/streams/topology.ts";
import { createStage, HOOK_MS, rounds, type Stage, seeded, thorough } from "../faults/stage.ts";
import { cleanup, eventually, type FootfallProcess, startServer, startWorker } from "../harness.ts";
import { poisonOrders } from "./shop.ts";
import { countWaiting, expectTradeRight, installWitness, openShop, startTrade } from "./trade.ts";

const ROUNDS = rounds(3);
const SIZE = thorough
  ? { orders: 10_000, groups: 500, workers: 4, clients: 24 }
  : { orders: 250, groups: 30, workers: 2, clients: 6 };
/**
 * The longest time that a poison command is tried (21 s of waiting), and the time of a takeover.
 */
const QUIET_MS = 90_000;

let stage: Stage;
let url: string;

beforeAll(async () => {
  stage = await createStage();
  await poisonOrders(stage);
  await installWitness(stage);
  url = (await startServer(stage.env)).url;
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

test(
  "effects once and in order, stock and revenue right, dead letters = the poison set",
  async () => {
    const { random, seed, rngOf } = seeded("orders");
    const [tenant] = stage.tenants;
    if (!tenant) throw new Error("the stage has no tenant");
    await openShop(stage, tenant);
    const workers: FootfallProcess[] = [];
    for (let n = 0; n < SIZE.workers; n += 1) workers.push(await startWorker(stage.env));
    const trade = startTrade({ url, tenant, rngOf, ...SIZE });
    let trading = true;
    const finished = trade.done.finally(() => {
      trading = false;
    });
    const faults = { kills: 0, wipes: 0, redeliveries: 0 };
    for (let round = 0; round < ROUNDS; round += 1) {
      await Bun.sleep(random.between(50, thorough ? 1_500 : 500));
      if (round % 2 === 0) {
        const victim = workers.splice(random.between(0, workers.length - 1), 1)[0];
        victim?.kill("SIGKILL");
        workers.push(await startWorker(stage.env));
        faults.kills += 1;
      } else if (round % 4 === 1) {
        await stage.deps.redis.flushall();
        faults.wipes += 1;
      } else {
        await redeliver(stage, tenant.tenantId);
        faults.redeliveries += 1;
      }
    }
    await finished;
    await redeliver(stage, tenant.tenantId);
    await eventually(
      async () => {
        // The quick mode does not wait for the retries' delays; queue.test.ts has their lengths.
        if (!thorough) await hurry(stage);
        expect(await countWaiting(stage), `${seed}: commands waiting`).toBe(0);
      },
      { timeoutMs: QUIET_MS, intervalMs: 200 },
    );
    await eventually(async () => expect(await stage.deps.redis.xlen(ORDER_COMMANDS.key)).toBe(0), {
      timeoutMs: 30_000,
    });
    for (const worker of workers) expect(await worker.stop()).toBe(0);
    expect(trading).toBe(false);
    console.log(
      `orders: ${trade.placed.length} orders, ${JSON.stringify(faults)}, ${trade.poisoned.size} poisoned`,
    );
    console.log(`  by state: ${JSON.stringify(await countStates(stage))}`);
    await expectTradeRight(stage, tenant, trade, seed);
  },
  120_000 + QUIET_MS + ROUNDS * 15_000,
);

/** Announces every group again, as a stream does whose consumers died before their XACK. */
async function redeliver({ deps, sql }: Stage, tenantId: string): Promise<void> {
  const groups = await sql<{ groupId: string }[]>`
    select group_id as "groupId" from order_groups where tenant_id = ${tenantId}`;
  await deps.announcer.announceOrders(groups.map(({ groupId }) => ({ tenantId, groupId })));
}

async function hurry({ sql }: Stage): Promise<void> {
  await sql`update order_commands set due_at = now() where state = 'waiting' and attempts > 0 and due_at > now()`;
}

async function countStates({ sql }: Stage): Promise<Record<string, number>> {
  const rows = await sql<{ status: string; n: number }[]>`
    select status, count(*)::int as n from orders group by status order by status`;
  return Object.fromEntries(rows.map(({ status, n }) => [status, n]));
}
