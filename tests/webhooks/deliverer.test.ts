/**
 * How deliveries are sent: slots, leases, deadlines, and workers that stop or are killed while they
 * send.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { type Busy, createWebhookDeliveries } from "../../src/features/webhooks/index.ts";
import { encodeDomainAnnouncement } from "../../src/streams/messages.ts";
import { DOMAIN_STREAM } from "../../src/streams/topology.ts";
import { createWebhookDeliverer } from "../../worker/jobs/webhook-deliveries.ts";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, type FootfallProcess, onCleanup, startWorker } from "../harness.ts";
import {
  createWebhook,
  deliverAll,
  deliveriesOf,
  enqueue,
  makeDue,
  type Received,
  type Receiver,
  startReceiver,
  writeEvents,
} from "./stage.ts";

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

const SLOTS_PER_ENDPOINT = 4;
const FAILING_SLOTS = 16;
const idsOf = (received: readonly Received[]) => received.map(({ headers }) => headers["webhook-id"] ?? "");

/** Holds every answer back until it is released. */
function holdAnswers(target: Receiver): () => void {
  const held = Promise.withResolvers<void>();
  target.reply = async () => {
    await held.promise;
    return new Response(null, { status: 204 });
  };
  onCleanup(held.resolve);
  return held.resolve;
}

function startDeliverer() {
  const deliverer = createWebhookDeliverer(api.deps);
  deliverer.start();
  onCleanup(() => deliverer.stop());
  return deliverer;
}

test("an endpoint that does not answer takes its own slots and delays nobody else", async () => {
  const hanging = startReceiver();
  const release = holdAnswers(hanging);
  const slow = await createWebhook(api, tenant, hanging.url);
  await enqueue(api, tenant.tenantId, 100);
  const fast = await createWebhook(api, tenant, receiver.url);
  await enqueue(api, tenant.tenantId, 60);
  const deliverer = startDeliverer();
  await eventually(() => expect(receiver.received.length).toBe(60));
  expect(hanging.received.length).toBe(SLOTS_PER_ENDPOINT);
  release();
  await eventually(() => expect(hanging.received.length).toBe(160));
  await deliverer.stop();
  for (const webhook of [slow, fast])
    expect(await deliveriesOf(api, tenant, webhook, "?status=pending")).toEqual([]);
  // Nothing was sent twice.
  for (const { received } of [hanging, receiver]) expect(new Set(idsOf(received)).size).toBe(received.length);
});

test("however many failing endpoints hang, the others are served", async () => {
  const hanging = startReceiver();
  const release = holdAnswers(hanging);
  for (let n = 0; n < FAILING_SLOTS + 14; n += 1) await createWebhook(api, tenant, hanging.url);
  await enqueue(api, tenant.tenantId, 3);
  await api.sql`update webhook_endpoints set failing_since = now()`;
  await createWebhook(api, tenant, receiver.url);
  await enqueue(api, tenant.tenantId, 20);
  const deliverer = startDeliverer();
  await eventually(() => expect(receiver.received.length).toBe(20));
  expect(hanging.received.length).toBe(FAILING_SLOTS);
  // One each.
  const rows = await api.sql`select endpoint_id from webhook_deliveries
    where tenant_id = ${tenant.tenantId} and status = 'pending' and next_attempt_at > now() group by 1`;
  expect(rows.length).toBe(FAILING_SLOTS);
  release();
  await eventually(() => expect(hanging.received.length).toBe((FAILING_SLOTS + 14) * 23));
  await deliverer.stop();
}, 60_000);

for (const failing of [false, true])
  test(`tenants take turns at the ${failing ? "failing" : "healthy"} endpoints' slots, and none has all`, async () => {
    const hanging = startReceiver();
    const release = holdAnswers(hanging);
    const slots = failing ? { tenant: 16, all: 24 } : { tenant: 48, all: 64 };
    const slotsPerEndpoint = failing ? 1 : SLOTS_PER_ENDPOINT;
    // Two that could fill a worker each, and one that comes when they have.
    const bold = [tenant, await createTenant(api)];
    const late = await createTenant(api);
    for (const one of bold) {
      for (let n = 0; n < slots.all / slotsPerEndpoint; n += 1)
        await createWebhook(api, one, `${hanging.url}/${one.slug}`);
    }
    await createWebhook(api, late, `${receiver.url}/late`);
    await api.sql`update webhook_endpoints set failing_since = case when ${failing} then now() end`;
    const sendingOf = ({ slug }: TestTenant) =>
      hanging.received.filter(({ path }) => path === `/${slug}`).length;
    const [first, second] = bold as [TestTenant, TestTenant];
    await enqueue(api, first.tenantId, 8);
    const deliverer = startDeliverer();
    await eventually(() => expect(sendingOf(first)).toBe(slots.tenant));
    await enqueue(api, late.tenantId, 1);
    await eventually(() => expect(receiver.received.length).toBe(1));
    await enqueue(api, second.tenantId, 8);
    await eventually(() => expect(sendingOf(second)).toBe(slots.all - slots.tenant));
    expect(sendingOf(first)).toBe(slots.tenant);
    release();
    await eventually(() => expect(hanging.received.length).toBe((2 * 8 * slots.all) / slotsPerEndpoint), {
      timeoutMs: 30_000,
    });
    await deliverer.stop();
  }, 60_000);

test("of two tenants that wait, each gets half of a claim, however old the deliveries of one are", async () => {
  const other = await createTenant(api);
  for (const one of [tenant, other])
    for (let n = 0; n < 12; n += 1) await createWebhook(api, one, receiver.url);
  for (const one of [tenant, other]) await enqueue(api, one.tenantId, 4);
  const claim = { failing: false, slotsPerTenant: 48, slotsPerEndpoint: SLOTS_PER_ENDPOINT };
  const claimedOf = async (slots: number, busy: Busy[]) => {
    const claimed = await api.deps.webhookDeliveries.claim({ ...claim, slots, busy });
    return [tenant, other].map(
      ({ tenantId }) => claimed.filter((delivery) => delivery.tenantId === tenantId).length,
    );
  };
  expect(await claimedOf(20, [])).toEqual([10, 10]);
  // Who has slots waits until the other has as many.
  const { id: endpointId } = await createWebhook(api, tenant, receiver.url);
  const busy = [{ tenantId: tenant.tenantId, endpointId, count: 10, inLane: 10 }];
  expect(await claimedOf(12, busy)).toEqual([1, 11]);
});

test("several workers share the queue and send nothing twice", async () => {
  const webhooks = [];
  for (let n = 0; n < 5; n += 1) webhooks.push(await createWebhook(api, tenant, receiver.url));
  await enqueue(api, tenant.tenantId, 60);
  const workers = Array.from({ length: 4 }, () => createWebhookDeliverer(createTestDeps(api.config)));
  for (const worker of workers) worker.start();
  await eventually(() => expect(receiver.received.length).toBeGreaterThanOrEqual(300));
  for (const worker of workers) await worker.stop();
  expect(receiver.received.length).toBe(300);
  const [row] = await api.sql`select count(*)::int as n, max(attempts) as most from webhook_deliveries
    where tenant_id = ${tenant.tenantId} and status = 'succeeded'`;
  expect(row).toEqual({ n: 300, most: 1 });
});

test("a claimed delivery is leased, and a late outcome does not overwrite a newer one", async () => {
  const webhook = await createWebhook(api, tenant, receiver.url);
  await enqueue(api, tenant.tenantId);
  const claim = { failing: false, slots: 10, slotsPerTenant: 10, slotsPerEndpoint: 4, busy: [] };
  const [late] = await api.deps.webhookDeliveries.claim(claim);
  if (!late) throw new Error("nothing was claimed");
  expect(await deliverAll(api)).toEqual([]);
  await makeDue(api, tenant.tenantId);
  receiver.reply = () => new Response(null, { status: 500 });
  expect(await deliverAll(api)).toEqual([1]);
  receiver.reply = () => new Response(null, { status: 410 });
  await api.deps.webhookDeliveries.attempt(late, new AbortController().signal);
  expect(receiver.received.length).toBe(2);
  expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({
    status: "pending",
    // Only attempts with an outcome count, not claims.
    attempts: 1,
    lastStatus: 500,
  });
});

test("an answer that does not come in time is a failure", async () => {
  holdAnswers(receiver);
  const webhook = await createWebhook(api, tenant, receiver.url);
  await enqueue(api, tenant.tenantId);
  const webhookDeliveries = createWebhookDeliveries({
    sql: api.deps.db.write,
    guard: api.deps.webhookGuard,
    metrics: api.deps.metrics,
    log: api.deps.log,
    timeoutMs: 50,
  });
  expect(await createWebhookDeliverer({ ...api.deps, webhookDeliveries }).runOnce()).toBe(1);
  expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({
    status: "pending",
    lastStatus: null,
    lastError: "no answer within 50 ms",
  });
});

test("a worker that stops waits for answers; what it cuts off is no failure and is sent again", async () => {
  const release = holdAnswers(receiver);
  const webhook = await createWebhook(api, tenant, receiver.url);
  await enqueue(api, tenant.tenantId);
  const deliverer = startDeliverer();
  await eventually(() => expect(receiver.received.length).toBe(1));
  const stopping = deliverer.stop();
  await enqueue(api, tenant.tenantId);
  release();
  await stopping;
  expect((await deliveriesOf(api, tenant, webhook)).map((one: { status: string }) => one.status)).toEqual([
    "pending",
    "succeeded",
  ]);

  holdAnswers(receiver);
  const [claimed] = await api.deps.webhookDeliveries.claim({
    failing: false,
    slots: 1,
    slotsPerTenant: 1,
    slotsPerEndpoint: 1,
    busy: [],
  });
  if (!claimed) throw new Error("nothing was claimed");
  const stop = new AbortController();
  const attempt = api.deps.webhookDeliveries.attempt(claimed, stop.signal);
  await eventually(() => expect(receiver.received.length).toBe(2));
  stop.abort();
  await attempt;
  const [left] = await deliveriesOf(api, tenant, webhook);
  expect(left).toMatchObject({ status: "pending", attempts: 0, lastError: null });
  expect(Date.parse(left.nextAttemptAt)).toBeGreaterThan(Date.now());
});

test("a worker killed while it sends leaves nothing out; the second copy has the same webhook-id", async () => {
  const KILLS = 3;
  const EVENTS = 60;
  const webhook = await createWebhook(api, tenant, receiver.url);
  let victim: FootfallProcess | null = null;
  let killAt = 10;
  const pending: (() => void)[] = [];
  onCleanup(() => {
    for (const answer of pending) answer();
  });
  receiver.reply = async () => {
    if (receiver.received.length < killAt) return new Response(null, { status: 204 });
    // Received, not answered: the worker dies between sending and recording.
    victim?.kill("SIGKILL");
    await new Promise<void>((resolve) => pending.push(resolve));
    return new Response(null, { status: 204 });
  };
  const refs = await writeEvents(api, tenant.tenantId, EVENTS);
  for (const ref of refs) await api.deps.redis.xadd(DOMAIN_STREAM.key, "*", ...encodeDomainAnnouncement(ref));
  for (let kill = 0; kill < KILLS; kill += 1) {
    victim = await startWorker(api.env);
    expect(await victim.exited).toBe(137);
    // As if the lease had run out.
    await makeDue(api, tenant.tenantId);
    killAt = receiver.received.length + 10;
  }
  killAt = Number.POSITIVE_INFINITY;
  const last = await startWorker(api.env);
  await eventually(
    async () =>
      expect((await deliveriesOf(api, tenant, webhook, "?limit=100&status=succeeded")).length).toBe(EVENTS),
    { timeoutMs: 30_000 },
  );
  await last.stop();
  expect(new Set(idsOf(receiver.received))).toEqual(new Set(refs.map(({ id }) => id)));
  const again = receiver.received.length - EVENTS;
  console.log(`${KILLS} kills, ${EVENTS} messages, ${again} of them sent once more`);
  expect(again).toBeGreaterThanOrEqual(KILLS);
  expect(again).toBeLessThanOrEqual(KILLS * SLOTS_PER_ENDPOINT);
}, 90_000);
