import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { guarded, trackProcess } from "../cleanup.ts";
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
import { openStream, type SseClient } from "./sse-client.ts";

/**
 * G7: whatever is killed (the program that makes the changes, workers with relay and consumer in them, the API, Redis, also
 * wiped and paused), each committed domain event becomes one notification, no other one appears, and a client that comes again
 * with its last id is sent each once and in order. FAULT_ROUNDS=40 is the contract's 10,000 changes.
 */
const ROUNDS = rounds(8);
const CHANGES = thorough ? 10_000 : 1_500;
const PRODUCTS = 40;
/** Three announcements lost in a row: 10, 20 and 40 s. */
const RECOVERY_MS = 75_000;

let stage: Stage;
let tenantId: string;
let key: string;

beforeAll(async () => {
  stage = await createStage();
  const [tenant] = stage.tenants;
  if (!tenant) throw new Error("there is no tenant");
  ({ tenantId, key } = tenant);
  await stage.sql`
    insert into products (tenant_id, id, name, price, created_at, updated_at)
    select ${tenantId}, 'p-' || n, 'Product ' || n, 1, now(), now() from generate_series(0, ${PRODUCTS - 1}) n`;
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

function startChanges(): { kill(): Promise<void> } {
  const program = join(import.meta.dir, "change-products.ts");
  const child = Bun.spawn(guarded([process.execPath, program, tenantId]), {
    env: { ...process.env, DATABASE_URL: stage.env.DATABASE_URL },
    stdout: "ignore",
    stderr: "inherit",
  });
  trackProcess(child);
  const kill = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  onCleanup(kill);
  return { kill };
}

async function countChanges(): Promise<number> {
  const [row] = await stage.sql<{ n: number }[]>`
    select sum(version - 1)::int as n from products where tenant_id = ${tenantId}`;
  return row?.n ?? 0;
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

/** Each domain event's committed change, and each notification's event: nothing more and nothing less. */
async function expectNothingLostOrInvented(seed: string): Promise<string[]> {
  const { sql } = stage;
  const [source] = await sql`
    select (select sum(version - 1)::int from products where tenant_id = ${tenantId}) as changes,
      count(*)::int as events, count(distinct (subject_id, payload ->> 'version'))::int as versions
    from outbox where tenant_id = ${tenantId}`;
  expect(source, `${seed}: one event a change`).toEqual({
    changes: source?.changes,
    events: source?.changes,
    versions: source?.changes,
  });
  const [difference] = await sql`
    select count(*) filter (where n.id is null)::int as lost, count(*) filter (where o.id is null)::int as invented
    from (select id from outbox where tenant_id = ${tenantId}) o
    full join (select id from notifications where tenant_id = ${tenantId}) n on n.id = o.id`;
  expect(difference, `${seed}: notifications`).toEqual({ lost: 0, invented: 0 });
  const rows = await sql<{ id: string; position: number }[]>`
    select id, position::int as position from notifications where tenant_id = ${tenantId} order by position`;
  expect(rows.map(({ position }) => position)).toEqual(rows.map((_, n) => n + 1));
  return rows.map(({ id }) => id);
}

test(
  "no domain event is lost or invented, and a follower is sent each once",
  async () => {
    const { random, seed } = seeded("domain events");
    const { redis, deps } = stage;
    const env = { ...stage.env, PORT: String(freePort()) };
    let server = await startServer(env);
    const workers: FootfallProcess[] = [await startWorker(env), await startWorker(env)];
    let changes = startChanges();
    const follower = startFollower(server.url);

    const faults: Record<string, () => Promise<void>> = {
      async worker() {
        const victim = workers.splice(random.between(0, 1), 1)[0];
        victim?.kill("SIGKILL");
        await victim?.exited;
        workers.push(await startWorker(env));
      },
      async changes() {
        await changes.kill();
        changes = startChanges();
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
    await eventually(async () => (await countChanges()) >= CHANGES, { timeoutMs: 120_000 });
    await changes.kill();
    const lastMs = performance.now();

    await eventually(
      async () => {
        const [row] =
          await stage.sql`select count(*)::int as n from outbox where 'notifications' = any(undone)`;
        expect(row?.n, `${seed}: events undone`).toBe(0);
      },
      { timeoutMs: RECOVERY_MS },
    );
    const recoveryMs = Math.round(performance.now() - lastMs);
    const ids = await expectNothingLostOrInvented(seed);
    expect(ids.length).toBeGreaterThanOrEqual(CHANGES);
    await eventually(() => follower.received().length >= ids.length);
    expect(follower.received(), `${seed}: the follower`).toEqual(ids);
    console.log(
      `${ids.length} changes, ${injected.length} faults (${injected.join(", ")}): quiet ${recoveryMs} ms after the last change, ` +
        `${follower.connections()} connections`,
    );
  },
  240_000 + ROUNDS * 10_000,
);
