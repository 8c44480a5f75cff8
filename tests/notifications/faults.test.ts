import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Row } from "postgres";
import type { Random } from "../../src/features/seeding/random.ts";
import { expectOnceAndInOrder, type Told, toldBy } from "../domain-events/order.ts";
import { createStage, HOOK_MS, rounds, type Stage, seeded, thorough } from "../faults/stage.ts";
import {
  cleanup,
  eventually,
  type FootfallProcess,
  freePort,
  onCleanup,
  startServer,
  startWorker,
} from "../harness.ts";
import { startChanges } from "./change-products.ts";
import { openStream, type SseClient } from "./sse-client.ts";

/**
 * G7: the API, workers with relay and both consumers, and Redis are killed, wiped and paused. Each
 * committed change of a product becomes one domain event, one notification and one delivery, and
 * there are no others. A client that comes again with its last id gets each once and in order; so
 * do the first attempts of each product at the webhook. FAULT_ROUNDS=40 is the full size: 10,000
 * changes over 104 products.
 */
const ROUNDS = rounds(8);
const CHANGES = thorough ? 10_000 : 1_500;
/** Three announcements lost in a row: 10, 20 and 40 s. */
const RECOVERY_MS = 75_000;

interface ProductEvent {
  before: { id: string } | null;
  after: { id: string } | null;
}

let stage: Stage;
let tenantId: string;
let key: string;

beforeAll(async () => {
  stage = await createStage();
  const [tenant] = stage.tenants;
  if (!tenant) throw new Error("there is no tenant");
  ({ tenantId, key } = tenant);
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

/**
 * An enabled webhook for every topic; one attempt in ten fails. Returns the first arrival of each
 * message.
 */
async function createWebhook(url: string, random: Random): Promise<() => Told[]> {
  const first = new Map<string, Told | null>();
  const receiver = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const id = request.headers.get("webhook-id") ?? "";
      const { type, data } = (await request.json()) as { type: string; data: ProductEvent };
      if (!first.has(id)) first.set(id, toldBy(type, (data.after ?? data.before)?.id ?? "", data));
      return new Response(null, { status: random.chance(0.1) ? 500 : 204 });
    },
  });
  onCleanup(() => receiver.stop(true));
  const response = await fetch(`${url}/webhooks`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ url: `http://127.0.0.1:${receiver.port}/` }),
  });
  expect(response.status).toBe(201);
  return () => [...first.values()].filter((told) => told !== null);
}

/** The changes that the outbox and the notifications hold, each in its order. */
async function readTold(): Promise<{ committed: Told[]; notified: Told[] }> {
  const told = (rows: readonly Row[]) =>
    rows.map(({ topic, subject, payload }) => toldBy(topic, subject, payload)).filter((one) => one !== null);
  const { sql } = stage;
  return {
    committed: told(
      await sql`select topic, subject_id as subject, payload from outbox
      where tenant_id = ${tenantId} order by sequence`,
    ),
    notified: told(
      await sql`select topic, subject_id as subject, payload from notifications
      where tenant_id = ${tenantId} order by position`,
    ),
  };
}

/** Follows the stream over every loss of its connection. */
function startFollower(url: string) {
  const clients: SseClient[] = [];
  let running = true;
  void (async () => {
    for (let last = "0"; running; last = clients.findLast((one) => one.events.length > 0)?.lastId() ?? last) {
      const client = await openStream(url, key, { headers: { "last-event-id": last } }).catch(() => null);
      if (client) clients.push(client);
      while (running && client?.ended === false) await Bun.sleep(20);
      await Bun.sleep(20);
    }
  })();
  onCleanup(() => {
    running = false;
  });
  return {
    connections: () => clients.length,
    /** Ids of the notifications, in the order of arrival. */
    received: () => clients.flatMap(({ events }) => events.map(({ data }) => String(data.id))),
  };
}

/** The committed changes, the outbox, the notifications and the deliveries match one for one. */
async function expectNothingLostOrInvented(expected: number, seed: string): Promise<string[]> {
  const { sql } = stage;
  const [source] = await sql`
    select (select sum(version)::int from products where tenant_id = ${tenantId}) as versions,
      count(*) filter (where topic <> 'product.lowstock')::int as changes, count(*)::int as events
    from outbox where tenant_id = ${tenantId}`;
  expect(source, `${seed}: one event a change`).toMatchObject({
    events: expected,
    changes: source?.versions,
  });
  for (const [table, event] of [
    ["notifications", "id"],
    ["webhook_deliveries", "event_id"],
  ] as const) {
    const [difference] = await sql`
      select count(*) filter (where made.event is null)::int as lost, count(*) filter (where o.id is null)::int as invented,
        count(made.event)::int as rows
      from (select id from outbox where tenant_id = ${tenantId}) o
      full join (select ${sql(event)} as event from ${sql(table)} where tenant_id = ${tenantId}) made on made.event = o.id`;
    expect(difference, `${seed}: ${table}`).toEqual({ lost: 0, invented: 0, rows: expected });
  }
  const rows = await sql<{ id: string; position: number }[]>`
    select id, position::int as position from notifications where tenant_id = ${tenantId} order by position`;
  expect(rows.map(({ position }) => position)).toEqual(rows.map((_, n) => n + 1));
  return rows.map(({ id }) => id);
}

/**
 * What a killed worker was sending, and what comes behind it, waits for its lease. Here the lease
 * ends at once.
 */
async function untilTried(seed: string): Promise<void> {
  await eventually(
    async () => {
      await stage.sql`update webhook_deliveries set next_attempt_at = now() - interval '1 ms'
        where tenant_id = ${tenantId} and status = 'pending' and attempts = 0 and next_attempt_at > now()`;
      const [left] = await stage.sql`select count(*)::int as n from webhook_deliveries
        where tenant_id = ${tenantId} and status = 'pending' and attempts = 0`;
      expect(left?.n, `${seed}: deliveries that were not tried`).toBe(0);
    },
    { timeoutMs: 120_000, intervalMs: 1_000 },
  );
}

test(
  "no domain event is lost or invented, and a follower is sent each once",
  async () => {
    const { random, seed, rngOf } = seeded("domain events");
    const { redis, deps } = stage;
    const env = {
      ...stage.env,
      PORT: String(freePort()),
      RATE_LIMIT_STANDARD: "off",
      WEBHOOK_ALLOW_PRIVATE: "true",
    };
    let server = await startServer(env);
    const workers: FootfallProcess[] = [await startWorker(env), await startWorker(env)];
    const firstAttempts = await createWebhook(server.url, rngOf(1_000));
    const changes = startChanges(() => server, key, rngOf);
    const follower = startFollower(server.url);

    const faults: Record<string, () => Promise<void>> = {
      async worker() {
        const victim = workers.splice(random.between(0, 1), 1)[0];
        victim?.kill("SIGKILL");
        await victim?.exited;
        workers.push(await startWorker(env));
      },
      async api() {
        server.kill("SIGKILL");
        await server.exited;
        server = await startServer(env);
      },
      async "redis killed"() {
        await redis.kill();
        await Bun.sleep(random.between(0, 1_500));
        await redis.start();
      },
      async "redis wiped"() {
        await deps.redis.flushall().catch(() => {});
      },
      async "redis paused"() {
        redis.pause();
        await Bun.sleep(random.between(100, 1_500));
        redis.resume();
      },
    };
    const names = Object.keys(faults);
    const injected: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      await Bun.sleep(random.between(50, 1_000));
      // Each kind in turn, in another order every time.
      if (round % names.length === 0) names.sort(() => random.between(0, 2) - 1);
      const name = names[round % names.length] ?? "worker";
      injected.push(name);
      await faults[name]?.();
    }
    const enough = eventually(() => changes.expected() >= CHANGES, { timeoutMs: 240_000 });
    await Promise.race([enough, changes.finished]);
    changes.stop();
    await changes.finished;
    const lastMs = performance.now();

    await eventually(
      async () => {
        const [row] = await stage.sql`select count(*)::int as n from outbox where undone <> '{}'`;
        expect(row?.n, `${seed}: events undone`).toBe(0);
      },
      { timeoutMs: RECOVERY_MS },
    );
    const recoveryMs = Math.round(performance.now() - lastMs);
    const ids = await expectNothingLostOrInvented(changes.expected(), seed);
    expect(ids.length).toBeGreaterThanOrEqual(CHANGES);
    await eventually(() => follower.received().length >= ids.length);
    expect(follower.received(), `${seed}: the follower`).toEqual(ids);
    const { committed, notified } = await readTold();
    expectOnceAndInOrder(notified, committed, `${seed}: notifications`);
    await untilTried(seed);
    expectOnceAndInOrder(firstAttempts(), committed, `${seed}: first attempts of the webhook`);
    console.log(
      `${ids.length} events of ${changes.expected()} expected, ${changes.uncertain.unanswered} requests without an answer of which ` +
        `${changes.uncertain.foundDone} changes were found done; ${injected.length} faults (${injected.join(", ")}): quiet ${recoveryMs} ms after the last change, ` +
        `${follower.connections()} connections`,
    );
  },
  450_000 + ROUNDS * 10_000,
);
