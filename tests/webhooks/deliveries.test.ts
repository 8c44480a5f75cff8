/** From a domain event to a signed message, once, and what follows when the receiver fails. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { Webhook } from "standardwebhooks";
import { encodeDomainAnnouncement } from "../../src/streams/messages.ts";
import { domainGroup } from "../../src/streams/topology.ts";
import { VERSION } from "../../src/version.ts";
import { createWebhookConsumer } from "../../worker/consumers/domain-events.ts";
import { createHousekeeping } from "../../worker/jobs/housekeeping.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, onCleanup } from "../harness.ts";
import {
  createWebhook,
  deliverAll,
  deliveriesOf,
  deliverOnce,
  enqueue,
  makeDue,
  type Received,
  type Receiver,
  startReceiver,
  webhookOf,
  writeEvents,
} from "./stage.ts";

let api: TestApi;
let tenant: TestTenant;
let receiver: Receiver;

beforeAll(async () => {
  api = await createTestApi({ WEBHOOK_ALLOW_PRIVATE: "true" });
});
beforeEach(async () => {
  // Whatever an earlier test left is nobody's business any more.
  await api.sql`delete from webhook_endpoints`;
  tenant = await createTenant(api);
  receiver = startReceiver();
});
afterAll(cleanup);

const secondsUntil = (time: string) => (Date.parse(time) - Date.now()) / 1_000;
const answer =
  (status: number, headers = {}) =>
  () =>
    new Response(null, { status, headers });
const verify = (secret: string, { body, headers }: Received) => new Webhook(secret).verify(body, headers);
const post = (path: string) => api.call("POST", path, { as: tenant.key });

describe("a message", () => {
  test("is signed as the reference verifies it, and says what happened", async () => {
    const webhook = await createWebhook(api, tenant, `${receiver.url}/hook?token=1`);
    const { refs } = await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    const [message] = receiver.received;
    if (!message) throw new Error("nothing arrived");
    expect([message.method, message.path]).toEqual(["POST", "/hook"]);
    expect(message.headers).toMatchObject({
      "content-type": "application/json",
      "user-agent": `Footfall/${VERSION}`,
      "webhook-id": refs[0]?.id,
    });
    expect(Object.keys(message.headers)).not.toContain("cookie");
    const payload = verify(webhook.secret, message);
    const [event] = await api.sql`select created_at as at from outbox where id = ${refs[0]?.id ?? ""}`;
    expect(payload).toEqual({
      type: "product.created",
      timestamp: event?.at.toISOString(),
      data: { after: { id: "product-0", name: "Täa \u2028 ☕", price: 4.95 } },
    });
    expect(() => verify(webhook.secret, { ...message, body: `${message.body} ` })).toThrow();
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({
      messageId: refs[0]?.id,
      topic: "product.created",
      status: "succeeded",
      attempts: 1,
      nextAttemptAt: null,
      lastStatus: 204,
      lastError: null,
      durationMs: expect.any(Number),
    });
    const [stored] = await api.sql`select jsonb_typeof(payload) as type from webhook_deliveries
      where tenant_id = ${tenant.tenantId}`;
    expect(stored?.type).toBe("object");
  });

  test("is signed with both secrets for 24 hours after a rotation", async () => {
    const { id, secret: old } = await createWebhook(api, tenant, receiver.url);
    const { body } = await post(`/webhooks/${id}/rotate-secret`);
    expect(Math.abs(secondsUntil(body.previousSecretUntil) - 86_400)).toBeLessThan(60);
    await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    await api.sql`update webhook_endpoints set previous_secret_until = now() - interval '1 ms'`;
    await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    const [during, after] = receiver.received as [Received, Received];
    for (const secret of [old, body.secret]) verify(secret, during);
    expect(during.headers["webhook-signature"]).toMatch(/^v1,\S+ v1,\S+$/);
    verify(body.secret, after);
    expect(() => verify(old, after)).toThrow();
    expect((await webhookOf(api, tenant, { id })).previousSecretUntil).toBeNull();
  });

  test("goes to the endpoints that want its topic", async () => {
    const some = await createWebhook(api, tenant, receiver.url, { topics: ["order.created"] });
    const all = await createWebhook(api, tenant, receiver.url);
    const off = await createWebhook(api, tenant, receiver.url);
    await api.call("PATCH", `/webhooks/${off.id}`, { as: tenant.key, json: { status: "disabled" } });
    expect((await enqueue(api, tenant.tenantId, 3, "product.updated")).made).toBe(3);
    expect((await enqueue(api, tenant.tenantId, 2, "order.created")).made).toBe(4);
    const counts = [some, all, off].map(async (one) => (await deliveriesOf(api, tenant, one)).length);
    expect(await Promise.all(counts)).toEqual([2, 5, 0]);
  });

  test("of a test goes out whatever the topics", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url, { topics: ["order.created"] });
    const { status, body } = await post(`/webhooks/${webhook.id}/test`);
    expect([status, body.topic]).toEqual([202, "webhook.test"]);
    await deliverAll(api);
    const [message] = receiver.received as [Received];
    expect(verify(webhook.secret, message)).toMatchObject({
      type: "webhook.test",
      data: { webhookId: webhook.id },
    });
  });
});

describe("one event makes one delivery", () => {
  test("however often it is announced, to however many workers", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    const refs = await writeEvents(api, tenant.tenantId, 20);
    const { handle } = api.deps.webhookDeliveries.domainHandler;
    const made = await Promise.all([handle(refs), handle(refs.toReversed()), handle([...refs, ...refs])]);
    expect(made.reduce((sum, n) => sum + n, 0)).toBe(20);
    const items = await deliveriesOf(api, tenant, webhook, "?limit=100");
    expect(items.map((one: { messageId: string }) => one.messageId)).toEqual(
      refs.map(({ id }) => id).toReversed(),
    );
    const [left] = await api.sql`select count(*)::int as n from outbox
      where tenant_id = ${tenant.tenantId} and 'webhooks' = any(undone)`;
    expect(left?.n).toBe(0);
  });

  test("through the stream: doubled, redelivered after a crash before the acknowledgement, and beside rubbish", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    const refs = await writeEvents(api, tenant.tenantId, 3);
    const { redis } = api.deps;
    const { key, group } = domainGroup("webhooks");
    await redis.xgroup("CREATE", key, group, "0", "MKSTREAM").catch(() => {});
    for (const ref of [...refs, ...refs]) await redis.xadd(key, "*", ...encodeDomainAnnouncement(ref));
    await redis.xadd(key, "*", "what", "is this");
    // One that read everything, committed half of it and died.
    await redis.xreadgroup("GROUP", group, "dead", "COUNT", 100, "STREAMS", key, ">");
    await api.deps.webhookDeliveries.domainHandler.handle(refs.slice(0, 2));
    await redis.xclaim(key, group, "dead", 0, ...(await pendingIds()), "IDLE", 60_000);
    const consumer = createWebhookConsumer(api.deps, "living");
    onCleanup(() => consumer.stop());
    expect(await eventually(async () => (await consumer.runOnce({ block: false })) || null)).toBe(7);
    expect((await deliveriesOf(api, tenant, webhook)).length).toBe(3);
    expect(await pendingIds()).toEqual([]);

    async function pendingIds(): Promise<string[]> {
      return ((await redis.xpending(key, group, "-", "+", 100)) as [string][]).map(([id]) => id);
    }
  });
});

describe("a failed delivery", () => {
  test("is tried eleven times at growing distances, then given up", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    receiver.reply = answer(500);
    await enqueue(api, tenant.tenantId);
    const ceilings = [10, 60, 240, 1_200, 3_600, 7_200, 14_400, 28_800, 43_200, 72_000];
    for (const [n, ceiling] of ceilings.entries()) {
      expect(await deliverOnce(api)).toBe(1);
      const [delivery] = await deliveriesOf(api, tenant, webhook);
      expect(delivery).toMatchObject({
        status: "pending",
        attempts: n + 1,
        lastStatus: 500,
        lastError: null,
      });
      const wait = secondsUntil(delivery.nextAttemptAt);
      expect(wait).toBeGreaterThan(-5);
      expect(wait).toBeLessThanOrEqual(ceiling);
      await makeDue(api, tenant.tenantId);
    }
    expect(await deliverOnce(api)).toBe(1);
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({ status: "failed", attempts: 11 });
    await makeDue(api, tenant.tenantId);
    expect(await deliverOnce(api)).toBe(0);
    const { headers } = receiver.received[0] as Received;
    expect(new Set(receiver.received.map((one) => one.headers["webhook-id"]))).toEqual(
      new Set([headers["webhook-id"]]),
    );
    for (const one of receiver.received) verify(webhook.secret, one);
    // One message's bad luck is no reason to disable it.
    expect(await webhookOf(api, tenant, webhook)).toMatchObject({
      status: "enabled",
      failingSince: expect.any(String),
    });
  });

  test("waits as long as it is asked to, within bounds", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    for (const [header, least, most] of [
      ["3000", 2_990, 3_000],
      ["999999999", 14_390, 14_400],
      [new Date(Date.now() + 2_000_000).toUTCString(), 1_990, 2_000],
      ["soon", 0, 10],
    ] as const) {
      receiver.reply = answer(503, { "retry-after": header });
      await enqueue(api, tenant.tenantId);
      expect(await deliverOnce(api)).toBe(1);
      const [delivery] = await deliveriesOf(api, tenant, webhook);
      const wait = secondsUntil(delivery.nextAttemptAt);
      expect(`${header} ${wait >= least - 10 && wait <= most}`).toBe(`${header} true`);
    }
  });

  test("succeeds when the receiver is back, and the endpoint is no longer failing", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    receiver.reply = answer(502);
    await enqueue(api, tenant.tenantId);
    expect(await deliverOnce(api)).toBe(1);
    expect((await webhookOf(api, tenant, webhook)).failingSince).toBeString();
    receiver.reply = answer(200);
    await makeDue(api, tenant.tenantId);
    expect(await deliverOnce(api)).toBe(1);
    expect(await webhookOf(api, tenant, webhook)).toMatchObject({ failingSince: null, status: "enabled" });
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({ status: "succeeded", attempts: 2 });
  });

  test("says why there was no answer", async () => {
    const webhook = await createWebhook(api, tenant, "http://127.0.0.1:1/");
    await enqueue(api, tenant.tenantId);
    expect(await deliverOnce(api)).toBe(1);
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({
      status: "pending",
      lastStatus: null,
      lastError: "ECONNREFUSED",
    });
  });
});

describe("an endpoint", () => {
  test("that answers 410 is disabled at once and gets nothing more", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    receiver.reply = answer(410);
    await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    expect(await webhookOf(api, tenant, webhook)).toMatchObject({
      status: "disabled",
      disabledReason: "gone",
      failingSince: expect.any(String),
    });
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({ status: "failed", attempts: 1 });
    expect((await enqueue(api, tenant.tenantId)).made).toBe(0);
    expect((await post(`/webhooks/${webhook.id}/test`)).status).toBe(409);
    const on = await api.call("PATCH", `/webhooks/${webhook.id}`, {
      as: tenant.key,
      json: { status: "enabled" },
    });
    expect(on.body).toMatchObject({ status: "enabled", disabledReason: null, failingSince: null });
    expect((await enqueue(api, tenant.tenantId)).made).toBe(1);
  });

  test("that has failed for three days is disabled by a message that was tried for a day", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    receiver.reply = answer(500);
    await enqueue(api, tenant.tenantId);
    expect(await deliverOnce(api)).toBe(1);
    const later = async (failing: string, old: string) => {
      await api.sql`update webhook_endpoints set failing_since = now() - ${failing}::interval`;
      await api.sql`update webhook_deliveries set created_at = now() - ${old}::interval
        where tenant_id = ${tenant.tenantId}`;
      await makeDue(api, tenant.tenantId);
      expect(await deliverOnce(api)).toBe(1);
      return webhookOf(api, tenant, webhook);
    };
    expect(await later("2 days 23 hours", "2 days")).toMatchObject({ status: "enabled" });
    expect(await later("4 days", "23 hours")).toMatchObject({ status: "enabled" });
    expect(await later("73 hours", "25 hours")).toMatchObject({
      status: "disabled",
      disabledReason: "failing",
    });
    // Waiting deliveries are ended, and may be sent again once the endpoint is back.
    expect((await deliveriesOf(api, tenant, webhook))[0].status).toBe("pending");
    await makeDue(api, tenant.tenantId);
    expect(await deliverOnce(api)).toBe(0);
    await api.sql`delete from leases`;
    await createHousekeeping(api.deps, "keeper").runOnce();
    expect((await deliveriesOf(api, tenant, webhook))[0]).toMatchObject({ status: "failed", attempts: 4 });
  });

  test("that is deleted gets nothing more; its deliveries end and old ones are pruned", async () => {
    const kept = await createWebhook(api, tenant, receiver.url);
    const deleted = await createWebhook(api, tenant, receiver.url);
    await enqueue(api, tenant.tenantId);
    await api.call("DELETE", `/webhooks/${deleted.id}`, { as: tenant.key });
    expect(await deliverAll(api)).toEqual([1]);
    await enqueue(api, tenant.tenantId);
    const { tenantId } = tenant;
    await api.sql`delete from leases`;
    await createHousekeeping(api.deps, "keeper").runOnce();
    const count = async () => {
      const rows = await api.sql`select endpoint_id as id, status, count(*)::int as n from webhook_deliveries
        where tenant_id = ${tenantId} group by 1, 2 order by 2`;
      return rows.map((row) => [row.id === kept.id ? "kept" : "deleted", row.status, row.n]);
    };
    expect(await count()).toEqual([
      ["deleted", "failed", 1],
      ["kept", "pending", 1],
      ["kept", "succeeded", 1],
    ]);
    await api.sql`update webhook_deliveries set finished_at = finished_at - interval '30 days',
      created_at = created_at - interval '31 days' where tenant_id = ${tenantId}`;
    await createHousekeeping(api.deps, "keeper").runOnce();
    expect(await count()).toEqual([["kept", "pending", 1]]);
  });
});

describe("a replay", () => {
  test("is a new delivery of the same message", async () => {
    const webhook = await createWebhook(api, tenant, receiver.url);
    receiver.reply = answer(410);
    await enqueue(api, tenant.tenantId);
    await deliverAll(api);
    const [old] = await deliveriesOf(api, tenant, webhook);
    const path = `/webhooks/${webhook.id}/deliveries/${old.id}/replay`;
    expect((await post(path)).status).toBe(409);
    await api.call("PATCH", `/webhooks/${webhook.id}`, { as: tenant.key, json: { status: "enabled" } });
    receiver.reply = answer(200);
    const { status, body } = await post(path);
    expect([status, body.messageId, body.attempts, body.id === old.id]).toEqual([
      202,
      old.messageId,
      0,
      false,
    ]);
    expect((await post(`/webhooks/${webhook.id}/deliveries/${body.id}/replay`)).status).toBe(409);
    await deliverAll(api);
    const [first, second] = receiver.received as [Received, Received];
    expect(second.headers["webhook-id"]).toBe(first.headers["webhook-id"]);
    expect(second.body).toBe(first.body);
    verify(webhook.secret, second);
    const statuses = async (query: string) =>
      (await deliveriesOf(api, tenant, webhook, query)).map((one: { status: string }) => one.status);
    expect(await statuses("")).toEqual(["succeeded", "failed"]);
    expect(await statuses("?status=failed")).toEqual(["failed"]);
    expect((await post(`/webhooks/${webhook.id}/deliveries/${webhook.id}/replay`)).status).toBe(404);
    expect((await post(`/webhooks/${webhook.id}/deliveries/nothing/replay`)).status).toBe(404);
  });
});

describe("enqueueing", () => {
  /** What Postgres refuses for one tenant's deliveries only. */
  async function poison(tenantId: string): Promise<() => Promise<unknown>> {
    await api.sql.unsafe(
      `alter table webhook_deliveries add constraint poison check (tenant_id <> '${tenantId}') not valid`,
    );
    return () => api.sql.unsafe("alter table webhook_deliveries drop constraint poison");
  }

  test("passes over an event that Postgres refuses, which stays undone, and makes the others' deliveries", async () => {
    const other = await createTenant(api);
    for (const one of [tenant, other]) await createWebhook(api, one, receiver.url);
    await writeEvents(api, other.tenantId, 80);
    await writeEvents(api, tenant.tenantId, 1);
    const { outbox, webhookDeliveries } = api.deps;
    const handle = () =>
      outbox.handleWaiting([tenant.tenantId, other.tenantId], webhookDeliveries.domainHandler);
    const cure = await poison(tenant.tenantId);
    expect(await handle()).toEqual({ effects: 80, left: [] });
    await cure();
    await api.sql`update outbox_failures set retry_at = now() - interval '1 second'`;
    expect(await handle()).toEqual({ effects: 1, left: [] });
  });
});
