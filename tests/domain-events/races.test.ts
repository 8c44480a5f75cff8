/**
 * Two relays and two consumers, stopped by hand where a later event could overtake an earlier one.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, setSystemTime, test } from "bun:test";
import type { Deps } from "../../src/deps.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { DOMAIN_STREAM } from "../../src/streams/topology.ts";
import { createNotificationConsumer, createWebhookConsumer } from "../../worker/consumers/domain-events.ts";
import { createRelay } from "../../worker/jobs/relay.ts";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, onCleanup } from "../harness.ts";
import { emit } from "../notifications/stage.ts";
import { createWebhook, startReceiver } from "../webhooks/stage.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi({ WEBHOOK_ALLOW_PRIVATE: "true" });
});
beforeEach(async () => {
  await api.sql`delete from outbox`;
  await api.deps.redis.del(DOMAIN_STREAM.key);
  tenant = await createTenant(api);
  await createWebhook(api, tenant, startReceiver().url);
});
afterAll(cleanup);

const both = ["notifications", "webhooks"] as const;
const change = (n: number) => emit(api, tenant, [{ subjectId: `change-${n}`, consumers: both }]);

/** A worker of its own: connections, relay and consumers. */
async function createWorker(name: string) {
  const deps = createTestDeps(api.config);
  await waitUntilReady(deps.redis, 5_000);
  const consumers = [
    createNotificationConsumer(deps, `${name}-${tenant.slug}`),
    createWebhookConsumer(deps, `${name}-${tenant.slug}`),
  ];
  for (const consumer of consumers) {
    onCleanup(() => consumer.stop());
    // The first read makes the group.
    await eventually(() => consumer.runOnce({ block: false }));
    await consumer.runOnce({ block: false });
  }
  return {
    deps,
    relay: createRelay(deps),
    async consume(): Promise<void> {
      for (const consumer of consumers) while ((await consumer.runOnce({ block: false })) > 0);
    },
  };
}

/** Stops a worker's relay between its claim and its announcement, until released. */
function haltAnnouncing({ redis }: Pick<Deps, "redis">) {
  const reached = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  onCleanup(held.resolve);
  const begin = redis.pipeline.bind(redis);
  redis.pipeline = (commands?: unknown[][]) => {
    const pipeline = begin(commands);
    const send = pipeline.exec.bind(pipeline);
    const add = pipeline.xadd.bind(pipeline) as (...args: unknown[]) => typeof pipeline;
    Object.assign(pipeline, {
      xadd(...args: unknown[]) {
        pipeline.exec = async () => {
          reached.resolve();
          await held.promise;
          return send();
        };
        return add(...args);
      },
    });
    return pipeline;
  };
  return { reached: reached.promise, release: held.resolve };
}

async function expectInOrder(count: number): Promise<void> {
  const subjects = Array.from({ length: count }, (_, n) => `change-${n}`);
  const notified = await api.sql`
    select subject_id from notifications where tenant_id = ${tenant.tenantId} order by position`;
  expect(notified.map((row) => row.subject_id)).toEqual(subjects);
  const delivered = await api.sql`
    select subject_id from webhook_deliveries where tenant_id = ${tenant.tenantId} order by sequence`;
  expect(delivered.map((row) => row.subject_id)).toEqual(subjects);
  const { body } = await api.call("GET", "/notifications?limit=100", { as: tenant.key });
  expect(body.items.map((one: { subjectId: string }) => one.subjectId)).toEqual(subjects.toReversed());
}

describe("a later event does not overtake an earlier one", () => {
  test("whose relay has claimed it and not announced it yet", async () => {
    const [first, second] = [await createWorker("first"), await createWorker("second")];
    const halting = haltAnnouncing(first.deps);
    await change(0);
    const claimed = first.relay.runOnce();
    await halting.reached;
    await change(1);
    expect(await second.relay.runOnce()).toBe(1);
    await second.consume();
    await expectInOrder(2);
    halting.release();
    expect(await claimed).toBe(1);
    await first.consume();
    await second.consume();
    await expectInOrder(2);
  });

  test("whose announcement another consumer has taken and not handled yet", async () => {
    const [first, second] = [await createWorker("first"), await createWorker("second")];
    await change(0);
    await first.relay.runOnce();
    for (const consumer of both)
      await api.deps.redis.xreadgroup(
        "GROUP",
        consumer,
        "slow",
        "COUNT",
        10,
        "STREAMS",
        DOMAIN_STREAM.key,
        ">",
      );
    await change(1);
    await second.relay.runOnce();
    await second.consume();
    await expectInOrder(2);
  });

  test("that another consumer has claimed and not committed yet", async () => {
    const [first, second] = [await createWorker("first"), await createWorker("second")];
    await change(0);
    await first.relay.runOnce();
    const holder = await api.sql.reserve();
    await holder`begin`;
    await holder`lock table notifications, webhook_deliveries in share row exclusive mode`;
    const slow = first.consume();
    const blocked = (least: number) =>
      eventually(
        async () => {
          const rows = await api.sql`select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'`;
          expect(rows.length).toBeGreaterThanOrEqual(least);
        },
        { intervalMs: 5 },
      );
    await blocked(1);
    await change(1);
    await second.relay.runOnce();
    const fast = second.consume();
    await blocked(2);
    await holder`rollback`;
    holder.release();
    await Promise.all([slow, fast]);
    await first.consume();
    await expectInOrder(2);
  });

  test("whose announcements were wiped", async () => {
    const worker = await createWorker("only");
    await change(0);
    await worker.relay.runOnce();
    await api.deps.redis.flushall();
    await change(1);
    await worker.relay.runOnce();
    // The first reads after a wipe make the groups anew.
    for (let round = 0; round < 2; round += 1) await worker.consume();
    await expectInOrder(2);
  });

  test("however ids sort, which the clocks of several processes make", async () => {
    const worker = await createWorker("only");
    for (const [n, id] of [
      "ffffffff-ffff-7fff-bfff-ffffffffffff",
      "00000000-0000-7000-8000-000000000000",
    ].entries())
      await api.sql`insert into outbox (tenant_id, id, topic, subject_id, payload, undone, created_at, announce_at)
        values (${tenant.tenantId}, ${id}, 'product.updated', ${`change-${n}`}, '{}', '{notifications,webhooks}',
          now(), now() - interval '1 second')`;
    await worker.relay.runOnce();
    await worker.consume();
    await expectInOrder(2);
  });

  test("that was written before there was a number, however its table lies", async () => {
    const worker = await createWorker("only");
    await change(2);
    for (const n of [1, 0])
      await api.sql`insert into outbox (tenant_id, id, topic, subject_id, payload, undone, created_at, announce_at, sequence)
        values (${tenant.tenantId}, ${`00000000-0000-7000-8000-00000000000${n}`}, 'product.updated', ${`change-${n}`}, '{}',
          '{notifications,webhooks}', now(), now() - interval '1 second', null)`;
    await worker.relay.runOnce();
    await worker.consume();
    const rows = await api.sql`
      select subject_id from notifications where tenant_id = ${tenant.tenantId} order by position`;
    expect(rows.map((row) => row.subject_id)).toEqual(["change-0", "change-1", "change-2"]);
  });
});

test("an event of a process whose clock is ahead is announced at once", async () => {
  const worker = await createWorker("only");
  setSystemTime(new Date(Date.now() + 3_600_000));
  try {
    await change(0);
  } finally {
    setSystemTime();
  }
  expect(await worker.relay.runOnce()).toBe(1);
  await worker.consume();
  await expectInOrder(1);
});
