/**
 * Eight writers change a hundred products while two workers handle the events and Redis is wiped.
 * Notifications and first attempts of a webhook come in order and once each. Without the order, the
 * same check must see it break. With FAULT_ROUNDS it is 10,000 changes; kills are in
 * tests/notifications/faults.test.ts.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Deps } from "../../src/deps.ts";
import { createNotificationsService } from "../../src/features/notifications/index.ts";
import { createWebhookDeliveries } from "../../src/features/webhooks/index.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { createNotificationConsumer, createWebhookConsumer } from "../../worker/consumers/domain-events.ts";
import { createRelay } from "../../worker/jobs/relay.ts";
import { createWebhookDeliverer } from "../../worker/jobs/webhook-deliveries.ts";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { rewriting } from "../faults/rewriting.ts";
import { seeded, thorough } from "../faults/stage.ts";
import { cleanup, eventually, onCleanup } from "../harness.ts";
import { createWebhook, type Received, type Receiver, startReceiver } from "../webhooks/stage.ts";
import {
  type Answered,
  expectOnceAndInOrder,
  findOvertaking,
  findSwapped,
  type Told,
  toldBy,
} from "./order.ts";

const CHANGES = thorough ? 10_000 : 800;
const WRITERS = 8;
const PRODUCTS = 100;
const WIPES = 3;

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi({ WEBHOOK_ALLOW_PRIVATE: "true", RATE_LIMIT_STANDARD: "off" });
});
afterAll(cleanup);

/** The parts of a worker that tell of changes. */
async function startTelling(name: string, ordered: boolean): Promise<() => Promise<void>> {
  const own = createTestDeps(api.config);
  await waitUntilReady(own.redis, 5_000);
  const deps = ordered ? own : withoutOrder(own);
  const parts = [
    createRelay(deps),
    createNotificationConsumer(deps, name),
    createWebhookConsumer(deps, name),
    createWebhookDeliverer(deps),
  ];
  for (const part of parts) part.start();
  const stop = async () => {
    await Promise.all(parts.map((part) => part.stop()));
  };
  onCleanup(stop);
  return stop;
}

/**
 * The earlier state: a claim's order was whatever Postgres returned, and attempts began as they
 * came.
 */
function withoutOrder(deps: Deps): Deps {
  const write = rewriting(deps.db.write, {
    "order by claimed.sequence desc nulls last, claimed.id desc": "order by md5(claimed.id::text)",
    "where first.nth = 1 and first.next_attempt_at": "where first.next_attempt_at",
  });
  return {
    ...deps,
    notifications: createNotificationsService({ ...deps, db: { ...deps.db, write }, retentionDays: 90 }),
    webhookDeliveries: createWebhookDeliveries({ ...deps, sql: write, guard: deps.webhookGuard }),
  };
}

/** What the writers were answered. */
async function changeProducts(
  { key }: TestTenant,
  rngOf: ReturnType<typeof seeded>["rngOf"],
): Promise<Answered[]> {
  const answered: Answered[] = [];
  let begun = 0;
  const ask = async (method: string, productId: string, path: string, json?: object): Promise<number> => {
    const startedAtMs = performance.now();
    const { status, body } = await api.call(method, path, { as: key, json });
    if (status < 300 && body?.version)
      answered.push({ productId, version: body.version, startedAtMs, answeredAtMs: performance.now() });
    return status;
  };
  const writers = Array.from({ length: WRITERS }, async (_, n) => {
    const random = rngOf(n);
    while (begun < CHANGES) {
      begun += 1;
      // Each change sets a different price, or it would be no change.
      const price = begun;
      const id = `p-${random.between(1, PRODUCTS)}`;
      if (price % Math.ceil(CHANGES / WIPES) === 0) await api.deps.redis.flushall();
      const status = await ask("PATCH", id, `/products/${id}`, { price });
      if (status === 404) {
        const restored = await ask("POST", id, `/products/${id}/restore`);
        if (restored === 404) await ask("POST", id, "/products", { id, name: id, price });
      } else if (random.chance(0.03)) await ask("DELETE", id, `/products/${id}`);
    }
  });
  await Promise.all(writers);
  return answered;
}

/** Handled to the end, with short waits: lost announcements are due again at once. */
async function untilTold({ tenantId }: TestTenant): Promise<void> {
  await eventually(
    async () => {
      await api.sql`update outbox set announce_at = now() - interval '1 second'
        where undone <> '{}' and announce_at > now()`;
      const [left] = await api.sql`select
        (select count(*)::int from outbox where tenant_id = ${tenantId} and undone <> '{}') as undone,
        (select count(*)::int from webhook_deliveries where tenant_id = ${tenantId} and status = 'pending') as pending`;
      expect(left).toEqual({ undone: 0, pending: 0 });
    },
    { timeoutMs: 30_000 + CHANGES * 10, intervalMs: 250 },
  );
}

const compact = (told: readonly (Told | null)[]) => told.filter((one) => one !== null);

async function readTold({ tenantId }: TestTenant, { received }: Receiver) {
  const rows = await api.sql`select topic, subject_id as subject, payload from notifications
    where tenant_id = ${tenantId} order by position`;
  const committed = await api.sql`select topic, subject_id as subject, payload from outbox
    where tenant_id = ${tenantId} order by sequence`;
  const first = new Map<string, Received>();
  for (const one of received) {
    const id = one.headers["webhook-id"] ?? "";
    if (!first.has(id)) first.set(id, one);
  }
  return {
    committed: compact(committed.map(({ topic, subject, payload }) => toldBy(topic, subject, payload))),
    notified: compact(rows.map(({ topic, subject, payload }) => toldBy(topic, subject, payload))),
    delivered: compact(
      [...first.values()].map(({ body }) => {
        const { type, data } = JSON.parse(body);
        return toldBy(type, (data.after ?? data.before).id, data);
      }),
    ),
  };
}

async function run(ordered: boolean) {
  const { seed, rngOf } = seeded(`writers ${ordered}`);
  const tenant = await createTenant(api);
  const receiver = startReceiver();
  const random = rngOf(WRITERS);
  receiver.reply = async () => {
    await Bun.sleep(random.between(0, 10));
    return new Response(null, { status: 204 });
  };
  await createWebhook(api, tenant, receiver.url);
  const stops = [await startTelling(`a-${ordered}`, ordered), await startTelling(`b-${ordered}`, ordered)];
  const answered = await changeProducts(tenant, rngOf);
  await untilTold(tenant);
  for (const stop of stops) await stop();
  return { seed, answered, ...(await readTold(tenant, receiver)) };
}

test(
  "changes are told in the order of their commits",
  async () => {
    const { seed, answered, committed, notified, delivered } = await run(true);
    expect(committed.length).toBeGreaterThanOrEqual(CHANGES);
    expectOnceAndInOrder(notified, committed, `${seed}: notifications`);
    expectOnceAndInOrder(delivered, committed, `${seed}: first attempts`);
    expect(findOvertaking(notified, answered), `${seed}: what was answered first was told first`).toEqual([]);
    console.log(
      `${committed.length} changes, ${answered.length} of them answered with a version: none swapped`,
    );
  },
  120_000 + CHANGES * 20,
);

test(
  "without the order the same check sees swapped ones",
  async () => {
    const { answered, notified, delivered } = await run(false);
    // How many attempts arrive swapped depends on chance; tests/webhooks/first-attempts.test.ts
    // removes that guard.
    const swapped = {
      notifications: findSwapped(notified).length,
      firstAttempts: findSwapped(delivered).length,
      overtaking: findOvertaking(notified, answered).length,
    };
    console.log(`without the order: ${JSON.stringify(swapped)} of ${notified.length}`);
    expect(swapped.notifications).toBeGreaterThan(0);
    expect(swapped.overtaking).toBeGreaterThan(0);
  },
  120_000 + CHANGES * 20,
);
