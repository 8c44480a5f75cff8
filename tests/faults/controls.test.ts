/**
 * Shows that the other tests of this folder can fail. Each scenario runs twice: as the product is,
 * where the invariant holds, and with one guard removed, where the same check must see it break. A
 * guard is removed from the text of a statement on its way to Postgres, or by putting the product's
 * parts together wrongly.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { parseConfig } from "../../src/config.ts";
import type { Sql } from "../../src/db/client.ts";
import { EventPartitions } from "../../src/db/partitions.ts";
import type { Deps } from "../../src/deps.ts";
import { createEventsService, createEventWriter, type EventWriter } from "../../src/features/events/index.ts";
import { createRollupService } from "../../src/features/rollups/index.ts";
import { createConsumer, type StreamMessage } from "../../src/streams/consumer.ts";
import { createAnnouncer } from "../../src/streams/producer.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { createRollupConsumer } from "../../worker/consumers/rollup.ts";
import { createSweeper } from "../../worker/jobs/sweeper.ts";
import { createTenant, eventInput, type TestTenant } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";
import { expectStoredOnce, verify } from "./invariants.ts";
import { rewriting } from "./rewriting.ts";
import { countUndone, createStage, HOOK_MS, holdTable, type Stage, untilBlocked } from "./stage.ts";
import type { Promised } from "./traffic.ts";

const { key, group } = EVENT_BATCHES;

let stage: Stage;
let deps: Deps;

beforeAll(async () => {
  stage = await createStage();
  deps = stage.deps;
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

function writerOver(sql: Sql): EventWriter {
  const announcer = createAnnouncer(deps.redis, deps.metrics);
  return createEventWriter({
    sql,
    partitions: new EventPartitions(deps.db.write),
    announcer,
    metrics: deps.metrics,
  });
}

/** The HTTP application over another writer, as a function that posts one event. */
function appOver(writer: EventWriter) {
  const events = createEventsService({
    read: deps.db.read,
    readGuard: deps.readGuard,
    writer,
    readTenantSettings: deps.readTenantSettings,
    findPrices: deps.findPrices,
    maxAgeDays: 1,
  });
  const app = createApp({ ...deps, events }, { ...parseConfig(stage.env), version: "test" });
  return async ({ key: bearer }: TestTenant, json: Record<string, unknown>) => {
    const answer = await app.request("/events", {
      method: "POST",
      headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
      body: JSON.stringify(json),
    });
    return { status: answer.status, body: (await answer.json()) as { id?: string } };
  };
}

async function sendEvents(tenant: TestTenant, count: number): Promise<void> {
  const post = appOver(deps.writer);
  for (let n = 0; n < count; n += 1) expect((await post(tenant, eventInput())).status).toBe(202);
}

/** Reads and handles until nothing comes any more. */
async function drain(consumer: { runOnce(options: { block: boolean }): Promise<number> }): Promise<void> {
  // The first round may find no group, and makes it.
  await consumer.runOnce({ block: false });
  while ((await consumer.runOnce({ block: false })) > 0);
}

const both = (name: string, run: (guarded: boolean) => Promise<void>) =>
  describe(name, () => {
    test("holds", () => run(true));
    test("breaks without its guard", () => run(false));
  });

both("a batch that is announced twice counts once: the claim on the ledger", async (guarded) => {
  const tenant = await createTenant(stage);
  const unguarded = rewriting(deps.db.rollup, { " and b.rolled_up_at is null": "" });
  const db = guarded ? deps.db : { ...deps.db, rollup: unguarded };
  const rollups = createRollupService({ db, log: deps.log, metrics: deps.metrics });
  const consumer = createRollupConsumer({ ...deps, rollups }, `twice-${guarded}`);
  await eventually(() => drain(consumer));
  await sendEvents(tenant, 5);
  await drain(consumer);
  expect((await verify(stage, tenant.tenantId)).differing).toBe(0);

  const batches = await stage.sql<{ tenantId: string; batchId: string }[]>`
    select tenant_id as "tenantId", batch_id as "batchId" from event_batches where tenant_id = ${tenant.tenantId}`;
  expect(batches.length).toBeGreaterThan(0);
  const announcer = createAnnouncer(deps.redis, deps.metrics);
  await announcer.announce(batches.map((batch) => ({ ...batch, minMs: null, maxMs: null })));
  await drain(consumer);
  await consumer.stop();
  const { differing } = await verify(stage, tenant.tenantId);
  if (guarded) expect(differing).toBe(0);
  else expect(differing, "verify sees what was counted twice").toBeGreaterThan(0);
});

both("a retried messageId is stored once: event_keys", async (guarded) => {
  const tenant = await createTenant(stage);
  const sql = guarded
    ? deps.db.write
    : rewriting(deps.db.write, {
        "where message_id is not null order by tenant_id": "where false order by tenant_id",
        "where i.message_id is not null\n": "where false\n",
      });
  const post = appOver(writerOver(sql));
  const promised = nothingPromised(tenant);
  for (let retry = 0; retry < 3; retry += 1) {
    const { status, body } = await post(tenant, eventInput({ messageId: "retried" }));
    expect(status).toBe(202);
    if (retry === 0) promised.messages.set("retried", body.id ?? "");
  }
  const check = expectStoredOnce(stage, promised, "control");
  if (guarded) await check;
  else await expect(check).rejects.toThrow(/no messageId is stored twice/);
});

both("an acknowledged event survives its backend: the answer follows the commit", async (guarded) => {
  const tenant = await createTenant(stage);
  const { writer } = deps;
  const hasty: EventWriter = {
    ...writer,
    async write(tenantId, event, receivedAtMs) {
      writer.write(tenantId, event, receivedAtMs).catch(() => {});
      return { id: event.id, duplicate: false };
    },
  };
  const post = appOver(guarded ? writer : hasty);
  const promised = nothingPromised(tenant);
  const release = await holdTable(stage, "event_batches");
  const answer = post(tenant, eventInput({ messageId: "lost" }));
  const backends = await untilBlocked(stage, "test");
  await stage.sql`select pg_terminate_backend(pid) from unnest(${stage.sql.array(backends)}::int[]) as pid`;
  await release();
  const { status, body } = await answer;
  expect(status).toBe(guarded ? 503 : 202);
  if (status === 202) promised.messages.set("lost", body.id ?? "");
  const check = expectStoredOnce(stage, promised, "control");
  if (guarded) await check;
  else await expect(check).rejects.toThrow(/every acknowledged messageId is stored/);
});

both("a batch whose announcement was wiped is rolled up all the same: the sweeper", async (guarded) => {
  const tenant = await createTenant(stage);
  const consumer = createRollupConsumer(deps, `wiped-${guarded}`);
  await eventually(() => drain(consumer));
  await sendEvents(tenant, 3);
  // Announcements follow the commit on their own: the wipe must not overtake them.
  await eventually(async () => expect(await deps.redis.xlen(key)).toBeGreaterThan(0));
  await deps.redis.flushall();
  await stage.sql`update event_batches set received_at = received_at - interval '20 s' where tenant_id = ${tenant.tenantId}`;
  await drain(consumer);
  await consumer.stop();
  if (guarded) await createSweeper(deps, "control").runOnce();
  const { waiting } = await verify(stage, tenant.tenantId);
  if (guarded) expect(waiting).toBe(0);
  else expect(waiting, "nobody rolls up what nobody announces").toBeGreaterThan(0);
  await createSweeper(deps, "control").runOnce();
});

both("a worker that dies before its commit hands its batches on: XACK after the commit", async (guarded) => {
  const tenant = await createTenant(stage);
  const member = (name: string, handle: (messages: StreamMessage[]) => Promise<void>) =>
    createConsumer(
      deps.redisFactory.blocking("test", 100),
      {
        topology: EVENT_BATCHES,
        name,
        batchSize: 100,
        blockMs: 100,
        minIdleMs: 1,
        reclaimEveryMs: 0,
        handle,
      },
      deps.log,
    );
  const dying = member(`dying-${guarded}`, async (messages) => {
    if (!guarded) await deps.redis.xack(key, group, ...messages.map(({ id }) => id));
    throw new Error("killed");
  });
  const heir = member(`heir-${guarded}`, async (messages) => {
    await deps.rollups.rollUp(
      messages.map(({ fields: { t = "", b = "" } }) => ({ tenantId: t, batchId: b })),
    );
  });
  await eventually(() => drain(heir));
  await sendEvents(tenant, 3);
  await eventually(async () => expect(await deps.redis.xlen(key)).toBeGreaterThan(0));
  await eventually(() => expect(dying.runOnce({ block: false })).rejects.toThrow(/killed/));
  // Only pending entries can be taken over: the dead member has read everything.
  await eventually(async () => {
    await drain(heir);
    const undone = await countUndone(stage);
    if (guarded) expect(undone).toBe(0);
    else expect(undone, "what was acknowledged too early is handled by nobody").toBeGreaterThan(0);
  });
  if (!guarded) await stage.sql`delete from event_batches where tenant_id = ${tenant.tenantId}`;
});

const nothingPromised = (tenant: TestTenant): Promised => ({
  tenant,
  messages: new Map(),
  blindIds: [],
  blindRequests: new Map(),
});
