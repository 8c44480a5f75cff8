import { operatorContext } from "../src/core/principal.ts";
import { median } from "./single.ts";
import type { Stage } from "./stage.ts";

/**
 * Order commands: how many a second one and two workers handle on a backlog (their start included),
 * what a poison command costs the others, and the time from the 202 to the effect at a steady 200
 * orders a second over HTTP.
 */
export async function measureOrders(stage: Stage) {
  await prepare(stage);
  const rates = {
    placed: [] as number[],
    one: [] as number[],
    two: [] as number[],
    poisoned: [] as number[],
  };
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const mode of ["one", "two", "poisoned"] as const) {
      if (mode === "poisoned") await placePoison(stage, GROUPS + round);
      rates.placed.push(await placeOrders(stage, BACKLOG));
      rates[mode].push(await drain(stage, BACKLOG, mode === "two" ? 2 : 1));
    }
  }
  return {
    placedPerSecond: median(rates.placed),
    oneWorker: median(rates.one),
    twoWorkers: median(rates.two),
    poisoned: median(rates.poisoned),
    ofHealthy: median(rates.poisoned) / median(rates.one),
    ...(await measureLatency(stage)),
  };
}

const ROUNDS = 3;
const BACKLOG = 5_000;
const GROUPS = 500;
const POISON_QUANTITY = 7;
const PRODUCTS = 1_000;
const CLIENTS = 32;
const ORDERS_PER_SECOND = 200;
const SECONDS = 15;
const POLL_MS = 5;

/** Products, and a constraint by which Postgres refuses to accept what `placePoison` places. */
async function prepare({ deps, tenantId }: Stage): Promise<void> {
  await deps.db.write`
    alter table order_items add constraint poison check (quantity < ${deps.db.write.unsafe(String(POISON_QUANTITY))} or unit_price is null)`;
  await deps.db.write`
    insert into products (tenant_id, id, name, price, quantity, created_at, updated_at)
    select ${tenantId}, 'p' || n, 'Product ' || n, 9.95, 1000000, now(), now() from generate_series(1, ${PRODUCTS}) n`;
}

function sampleOrder(group: number) {
  const items = Array.from({ length: 2 }, () => ({
    productId: `p${1 + Math.floor(Math.random() * PRODUCTS)}`,
    quantity: 1,
  }));
  return { customerName: "Ada", customerEmail: `customer${group}@example.com`, items };
}

/** Orders a second that one process stores. */
async function placeOrders({ deps, tenantId }: Stage, count: number): Promise<number> {
  const startedAt = performance.now();
  let next = 0;
  const client = async () => {
    for (let n = next++; n < count; n = next++)
      await deps.orders.createOrder(operatorContext(tenantId), sampleOrder(n % GROUPS), undefined);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return count / ((performance.now() - startedAt) / 1_000);
}

/** One order that can't be handled, ahead of the others, in a group of its own. */
async function placePoison({ deps, tenantId }: Stage, group: number): Promise<void> {
  const items = [{ productId: "p1", quantity: POISON_QUANTITY }];
  await deps.orders.createOrder(operatorContext(tenantId), { ...sampleOrder(group), items }, undefined);
}

/** Commands a second from the workers' start to the last one done. */
async function drain(stage: Stage, commands: number, workers: number): Promise<number> {
  // As autovacuum would have done on an installation that is older than a minute.
  await stage.deps.db.write.unsafe("analyze");
  const startedAt = performance.now();
  const running = await Promise.all(
    Array.from({ length: workers }, () => stage.start(["src/cli.ts", "worker"], "worker started")),
  );
  for (;;) {
    const [row] = await stage.deps.db.read<{ waiting: number }[]>`
      select count(*)::int as waiting from order_commands where state = 'waiting' and attempts = 0`;
    if (row?.waiting === 0) break;
    await Bun.sleep(POLL_MS);
  }
  const rate = commands / ((performance.now() - startedAt) / 1_000);
  for (const worker of running) await worker.stop();
  return rate;
}

async function measureLatency(stage: Stage) {
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  const worker = await stage.start(["src/cli.ts", "worker"], "worker started");
  const accepted = new Map<string, number>();
  const latencies: number[] = [];
  const { key } = await stage.deps.apiKeys.createApiKey(operatorContext(stage.tenantId), {
    name: "orders",
    kind: "secret",
    scopes: ["orders:write"],
  });
  const headers = { "content-type": "application/json", "x-api-key": key };
  const pending: Promise<void>[] = [];
  let refused = 0;
  const startedAt = performance.now();
  for (let sent = 0; sent < ORDERS_PER_SECOND * SECONDS; ) {
    const due = Math.floor(((performance.now() - startedAt) / 1_000) * ORDERS_PER_SECOND);
    for (; sent < due; sent += 1) {
      const body = JSON.stringify(sampleOrder(sent % GROUPS));
      const request = fetch(`${api.url}/orders`, { method: "POST", headers, body }).then(async (answer) => {
        if (answer.status !== 202) refused += 1;
        const { messageId } = (await answer.json()) as { messageId?: string };
        if (messageId) accepted.set(messageId, performance.now());
      });
      pending.push(request);
    }
    await collect(stage, accepted, latencies);
    await Bun.sleep(POLL_MS);
  }
  await Promise.all(pending);
  while (accepted.size > 0) await collect(stage, accepted, latencies);
  await api.stop();
  await worker.stop();
  if (refused > 0) throw new Error(`${refused} orders were refused`);
  latencies.sort((a, b) => a - b);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))];
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

/** Takes out what is handled by now, and notes how long it took. */
async function collect({ deps }: Stage, accepted: Map<string, number>, latencies: number[]): Promise<void> {
  if (accepted.size === 0) return;
  const ids = [...accepted.keys()];
  const done = await deps.db.read<{ id: string }[]>`
    select message_id as id from order_history
    where at > now() - interval '1 minute' and message_id = any(${deps.db.read.array(ids)}::uuid[])`;
  for (const { id } of done) {
    latencies.push(performance.now() - (accepted.get(id) ?? Number.NaN));
    accepted.delete(id);
  }
}
