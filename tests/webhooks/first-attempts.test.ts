/**
 * Of one product or order, an endpoint is sent the first attempts in the order of events, one after
 * the other.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createWebhookDeliveries } from "../../src/features/webhooks/index.ts";
import { createWebhookDeliverer } from "../../worker/jobs/webhook-deliveries.ts";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { rewriting } from "../faults/rewriting.ts";
import { cleanup, eventually, onCleanup } from "../harness.ts";
import { emit } from "../notifications/stage.ts";
import { createWebhook, deliverOnce, makeDue, type Receiver, startReceiver } from "./stage.ts";

let api: TestApi;
let tenant: TestTenant;
let receiver: Receiver;

beforeAll(async () => {
  api = await createTestApi({ WEBHOOK_ALLOW_PRIVATE: "true" });
});
beforeEach(async () => {
  await api.sql`delete from webhook_endpoints`;
  tenant = await createTenant(api);
  receiver = startReceiver();
});
afterAll(cleanup);

/** Deliveries of changes, as `<subject> <number>`. */
async function enqueue(...changes: string[]): Promise<void> {
  const events = changes.map((change) => ({
    subjectId: change.split(" ")[0],
    payload: { change },
    consumers: ["webhooks"] as const,
  }));
  await emit(api, tenant, events);
  await api.deps.outbox.handleWaiting([tenant.tenantId], api.deps.webhookDeliveries.domainHandler);
}

const received = (): string[] => receiver.received.map(({ body }) => JSON.parse(body).data.change);

test("the next one waits for the answer to the one before, and other subjects don't", async () => {
  await createWebhook(api, tenant, receiver.url);
  const held = Promise.withResolvers<void>();
  onCleanup(held.resolve);
  receiver.reply = async ({ body }) => {
    if (body.includes("a 1")) await held.promise;
    return new Response(null, { status: 204 });
  };
  await enqueue("a 1", "a 2", "b 1", "b 2", "a 3");
  const workers = [api.deps, createTestDeps(api.config)].map((deps) => createWebhookDeliverer(deps));
  for (const worker of workers) {
    worker.start();
    onCleanup(() => worker.stop());
  }
  await eventually(() => expect(received()).toContain("b 2"));
  expect(received().filter((change) => change.startsWith("a"))).toEqual(["a 1"]);
  held.resolve();
  await eventually(() => expect(received().length).toBe(5));
  for (const worker of workers) await worker.stop();
  expect(received().filter((change) => change.startsWith("a"))).toEqual(["a 1", "a 2", "a 3"]);
});

test("a failed one is tried again later and holds up no other", async () => {
  await createWebhook(api, tenant, receiver.url);
  receiver.reply = ({ body }) => new Response(null, { status: body.includes("a 1") ? 500 : 204 });
  await enqueue("a 1", "a 2");
  expect(await deliverOnce(api)).toBe(1);
  // Its next try may come after a second, which a busy machine may take.
  await api.sql`update webhook_deliveries set next_attempt_at = now() + interval '1 hour' where attempts > 0`;
  expect([await deliverOnce(api), received()]).toEqual([1, ["a 1", "a 2"]]);
  receiver.reply = () => new Response(null, { status: 204 });
  await makeDue(api, tenant.tenantId);
  expect([await deliverOnce(api), received()]).toEqual([1, ["a 1", "a 2", "a 1"]]);
});

test("one whose worker was killed before it had an answer is sent before the next", async () => {
  await createWebhook(api, tenant, receiver.url);
  await enqueue("a 1", "a 2");
  const claim = { failing: false, slots: 10, slotsPerTenant: 10, slotsPerEndpoint: 4, busy: [] };
  expect((await api.deps.webhookDeliveries.claim(claim)).length).toBe(1);
  expect(await deliverOnce(api)).toBe(0);
  // As if the lease had run out.
  await makeDue(api, tenant.tenantId);
  expect([await deliverOnce(api), await deliverOnce(api), received()]).toEqual([1, 1, ["a 1", "a 2"]]);
});

test("without the guard of the claim, both would begin at once", async () => {
  await createWebhook(api, tenant, receiver.url);
  await enqueue("a 1", "a 2");
  const sql = rewriting(api.deps.db.write, {
    "where first.nth = 1 and first.next_attempt_at": "where first.next_attempt_at",
  });
  const { webhookGuard: guard, metrics, log } = api.deps;
  const unguarded = createWebhookDeliveries({ sql, guard, metrics, log });
  const claim = { failing: false, slots: 10, slotsPerTenant: 10, slotsPerEndpoint: 4, busy: [] };
  expect((await unguarded.claim(claim)).length).toBe(2);
});

test("each endpoint has an order of its own", async () => {
  const slow = startReceiver();
  const held = Promise.withResolvers<void>();
  onCleanup(held.resolve);
  slow.reply = async () => {
    await held.promise;
    return new Response(null, { status: 204 });
  };
  await createWebhook(api, tenant, slow.url);
  await createWebhook(api, tenant, receiver.url);
  await enqueue("a 1", "a 2");
  const deliverer = createWebhookDeliverer(api.deps);
  deliverer.start();
  onCleanup(() => deliverer.stop());
  await eventually(() => expect(received()).toEqual(["a 1", "a 2"]));
  expect(slow.received.length).toBe(1);
  held.resolve();
  await eventually(() => expect(slow.received.length).toBe(2));
  await deliverer.stop();
});

test("deliveries of before there was an order, and those of an older process, are sent all the same", async () => {
  await createWebhook(api, tenant, receiver.url);
  await enqueue("a 1", "a 2", "a 3");
  await api.sql`update webhook_deliveries set subject_id = null, sequence = null where tenant_id = ${tenant.tenantId}
    and payload->'data'->>'change' <> 'a 3'`;
  expect(await deliverOnce(api)).toBe(3);
});

test("a claim looks at a hundred of an endpoint, and at fewer where there are a thousand endpoints", async () => {
  await createWebhook(api, tenant, receiver.url);
  // The price of a claim depends on what it reads of all endpoints together.
  await enqueue(...Array.from({ length: 20 }, (_, n) => `a ${n}`), "b 1");
  const claim = { failing: false, slots: 10, slotsPerTenant: 10, slotsPerEndpoint: 4, busy: [] };
  const claimed = async () => {
    const found = await api.deps.webhookDeliveries.claim(claim);
    await makeDue(api, tenant.tenantId);
    return found.length;
  };
  expect(await claimed()).toBe(2);
  await api.sql`insert into webhook_endpoints (tenant_id, id, url, topics, secret, status, created_at, updated_at)
    select gen_random_uuid(), gen_random_uuid(), 'http://127.0.0.1:1/', '{}', 'secret', 'enabled', now(), now()
    from generate_series(1, 1000)`;
  expect(await claimed()).toBe(1);
});
