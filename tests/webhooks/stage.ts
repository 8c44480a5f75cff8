/** What the webhook tests share: a receiver, endpoints, and domain events on their way to them. */
import type { Topic } from "../../src/core/domain-events.ts";
import { type EventRef, insertDomainEvents } from "../../src/features/outbox/index.ts";
import { createWebhookDeliverer } from "../../worker/jobs/webhook-deliveries.ts";
import type { TestApi, TestTenant } from "../factories.ts";
import { onCleanup } from "../harness.ts";

export interface Received {
  path: string;
  method: string;
  headers: Record<string, string>;
  body: string;
}

export interface Receiver {
  url: string;
  port: number;
  received: Received[];
  /** What it answers from now on. */
  reply: (request: Received) => Response | Promise<Response>;
}

/**
 * An HTTP server on loopback that remembers what it was sent and answers 204 until told otherwise.
 */
export function startReceiver(): Receiver {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 60,
    async fetch(request) {
      const one = {
        path: new URL(request.url).pathname,
        method: request.method,
        headers: request.headers.toJSON(),
        body: await request.text(),
      };
      receiver.received.push(one);
      return receiver.reply(one);
    },
  });
  onCleanup(() => server.stop(true));
  const receiver: Receiver = {
    url: `http://127.0.0.1:${server.port}`,
    port: server.port ?? 0,
    received: [],
    reply: () => new Response(null, { status: 204 }),
  };
  return receiver;
}

export interface TestWebhook {
  id: string;
  secret: string;
}

export async function createWebhook(
  api: TestApi,
  { key }: TestTenant,
  url: string,
  fields: { topics?: Topic[]; description?: string } = {},
): Promise<TestWebhook> {
  const { status, body } = await api.call("POST", "/webhooks", { as: key, json: { url, ...fields } });
  if (status !== 201) throw new Error(`POST /webhooks answered ${status}: ${JSON.stringify(body)}`);
  return body;
}

/** Writes domain events as features do, and returns what the relay would announce. */
export async function writeEvents(
  api: TestApi,
  tenantId: string,
  count = 1,
  topic: Topic = "product.created",
): Promise<EventRef[]> {
  const events = Array.from({ length: count }, (_, n) => ({
    topic,
    subjectId: `product-${n}`,
    sellerId: null,
    payload: { after: { id: `product-${n}`, name: "Täa \u2028 ☕", price: 4.95 } },
  }));
  await api.deps.db.transaction((tx) => insertDomainEvents(tx, tenantId, events));
  const rows = await api.sql<EventRef[]>`
    select tenant_id as "tenantId", id from outbox where tenant_id = ${tenantId} order by id desc limit ${count}`;
  return [...rows].reverse();
}

/** Domain events that have become deliveries. */
export async function enqueue(api: TestApi, tenantId: string, count = 1, topic: Topic = "product.created") {
  const refs = await writeEvents(api, tenantId, count, topic);
  const made = await api.deps.webhookDeliveries.domainHandler.handle(refs);
  return { refs, made };
}

/** Sends what is due in rounds until nothing is; returns the size of each round. */
export async function deliverAll(api: TestApi): Promise<number[]> {
  const deliverer = createWebhookDeliverer(api.deps);
  const rounds: number[] = [];
  for (let sent = await deliverer.runOnce(); sent > 0; sent = await deliverer.runOnce()) rounds.push(sent);
  return rounds;
}

/**
 * One round: a failed delivery may be due again after a second, which a loop on a busy machine
 * could meet.
 */
export const deliverOnce = (api: TestApi): Promise<number> => createWebhookDeliverer(api.deps).runOnce();

export const deliveriesOf = async (api: TestApi, { key }: TestTenant, { id }: { id: string }, query = "") =>
  (await api.call("GET", `/webhooks/${id}/deliveries${query}`, { as: key })).body.items;

export const webhookOf = async (api: TestApi, { key }: TestTenant, { id }: { id: string }) =>
  (await api.call("GET", `/webhooks/${id}`, { as: key })).body;

/** Makes the pending deliveries of a tenant due. Not at `now()`, which the column may round up. */
export async function makeDue({ sql }: TestApi, tenantId: string): Promise<void> {
  await sql`update webhook_deliveries set next_attempt_at = now() - interval '1 ms'
    where tenant_id = ${tenantId} and status = 'pending'`;
}
