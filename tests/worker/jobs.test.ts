/** The periodic jobs: the sweeper finds what the stream forgot, leases, housekeeping. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { acquireLease, releaseLeases } from "../../src/db/lease.ts";
import { createHousekeeping } from "../../worker/jobs/housekeeping.ts";
import { createSweeper } from "../../worker/jobs/sweeper.ts";
import { createPeriodicJob } from "../../worker/periodic.ts";
import {
  createTenant,
  createTestApi,
  createTestDeps,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, migrate } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const ingest = (timestamp: string | number = Date.now()) =>
  api.call("POST", "/events", { as: tenant.key, json: eventInput({ timestamp }) });
const age = (seconds: number) =>
  api.sql`update event_batches set received_at = now() - ${seconds} * interval '1 second' where rolled_up_at is null`;

async function undone(): Promise<number> {
  const [row] = await api.sql`select count(*)::int as n from event_batches
    where tenant_id = ${tenant.tenantId} and rolled_up_at is null`;
  return row?.n;
}

describe("the sweeper", () => {
  test("takes overdue batches whose announcement is lost, and leaves fresh ones alone", async () => {
    const sweeper = createSweeper(api.deps, "sweeper-test");
    await ingest();
    await api.deps.redis.flushall();
    expect(await sweeper.runOnce()).toBe(0);
    await age(9);
    expect(await sweeper.runOnce()).toBe(1);
    expect(await undone()).toBe(0);
    expect(await sweeper.runOnce()).toBe(0);
  });

  test("leaves to the consumers what waits in the stream, but not for ever", async () => {
    const sweeper = createSweeper(api.deps, "sweeper-test");
    await api.deps.redis.flushall();
    await ingest();
    const { redis } = api.deps;
    const [[, fields]] = (await redis.xrange("{footfall:event-batches}:stream", "-", "+")) as [
      [string, string[]],
    ];
    await redis.del("{footfall:event-batches}:stream");
    await redis.xadd("{footfall:event-batches}:stream", `${Date.now() - 60_000}-0`, ...fields);
    await age(20);
    expect(await sweeper.runOnce()).toBe(0);
    await age(130);
    expect(await sweeper.runOnce()).toBe(1);
    await redis.flushall();
  });

  test("needs no Redis", async () => {
    const deps = createTestDeps({ ...api.config, redisUrl: "redis://127.0.0.1:1" });
    const sweeper = createSweeper(deps, "sweeper-test");
    await ingest();
    await age(9);
    expect(await sweeper.runOnce()).toBe(1);
    expect(await undone()).toBe(0);
  });

  test("works off more than a page in one round", async () => {
    const [row] = await api.sql`with made as (
      insert into event_batches (tenant_id, batch_id, received_at, received, stored, duplicates, rejected)
      select ${tenant.tenantId}, gen_random_uuid(), now() - interval '1 minute', 1, 0, 1, 0 from generate_series(1, 450)
      returning 1) select count(*)::int as n from made`;
    expect(await createSweeper(api.deps, "sweeper-test").runOnce()).toBe(row?.n);
    expect(await undone()).toBe(0);
  });
});

describe("leases", () => {
  test("have one holder at a time, are renewed by it, and pass on when they run out or are given back", async () => {
    const sql = api.deps.db.write;
    const claims = await Promise.all(
      Array.from({ length: 20 }, (_, n) => acquireLease(sql, "one", `holder-${n}`, 60_000)),
    );
    expect(claims.filter(Boolean).length).toBe(1);
    const [lease] = await api.sql`select holder from leases where name = 'one'`;
    const holder = lease?.holder;
    expect(await acquireLease(sql, "one", holder, 60_000)).toBe(true);
    expect(await acquireLease(sql, "one", "other", 60_000)).toBe(false);
    await api.sql`update leases set expires_at = now() - interval '1 millisecond' where name = 'one'`;
    expect(await acquireLease(sql, "one", "other", 60_000)).toBe(true);
    expect(await acquireLease(sql, "one", holder, 60_000)).toBe(false);
    await releaseLeases(sql, "other");
    expect(await acquireLease(sql, "one", holder, 60_000)).toBe(true);
    expect(await acquireLease(sql, "two", "other", 60_000)).toBe(true);
  });

  test("of two workers one runs a job; the other takes over from a dead one", async () => {
    const job = (holder: string) =>
      createPeriodicJob(api.deps.db.write, api.deps.log, {
        name: "job",
        holder,
        everyMs: 1_000,
        runOnce: async () => 7,
      });
    const [first, second] = [job("a"), job("b")];
    expect([await first.runOnce(), await second.runOnce(), await first.runOnce()]).toEqual([7, null, 7]);
    // The column rounds to a millisecond, perhaps up: now() itself may still be ahead.
    await api.sql`update leases set expires_at = now() - interval '1 millisecond' where name = 'job'`;
    expect([await second.runOnce(), await first.runOnce()]).toEqual([7, null]);
  });

  test("a job that fails runs again, and stops when told to", async () => {
    let rounds = 0;
    const job = createPeriodicJob(api.deps.db.write, api.deps.log, {
      name: "failing",
      holder: "a",
      everyMs: 5,
      runOnce: async () => {
        rounds += 1;
        throw new Error("again");
      },
    });
    job.start();
    await eventually(() => expect(rounds).toBeGreaterThan(2));
    await job.stop();
    await job.stop();
    const stopped = rounds;
    await Bun.sleep(30);
    expect(rounds).toBe(stopped);
  });
});

test("five migrators at once leave a database that is migrated once", async () => {
  const [name] = await api.sql`select 'fresh_' || substr(md5(random()::text), 1, 12) as name`;
  await api.sql`create database ${api.sql(name?.name)}`.simple();
  const url = new URL(api.config.databaseUrl);
  url.pathname = `/${name?.name}`;
  try {
    await Promise.all(Array.from({ length: 5 }, () => migrate(url.href)));
    const deps = createTestDeps({ ...api.config, databaseUrl: url.href });
    expect(await deps.system.findReasonsNotReady()).toEqual([]);
    const [row] = await deps.db
      .read`select (select count(*)::int from drizzle.__drizzle_migrations) as migrations,
      (select count(*)::int from tenants) as tenants`;
    expect(row).toEqual({ migrations: expect.any(Number), tenants: 1 });
    await deps.db.close();
  } finally {
    await api.sql`drop database ${api.sql(name?.name)} with (force)`.simple();
  }
}, 30_000);

describe("housekeeping", () => {
  test("prunes done ledger rows and expired keys, and nothing that is still needed", async () => {
    for (const messageId of ["kept", "expired", "for-ever"])
      await api.call("POST", "/events", { as: tenant.key, json: eventInput({ messageId }) });
    await rollUpAll(api);
    await ingest();
    const { tenantId } = tenant;
    await api.sql`update event_keys set expires_at = now() - interval '1 second' where message_id = 'expired'`;
    await api.sql`update event_keys set expires_at = null where message_id = 'for-ever'`;
    await api.sql`update event_batches set received_at = now() - interval '2 hours',
      rolled_up_at = case when rolled_up_at is null then null else now() - interval '2 hours' end`;
    expect(await createHousekeeping(api.deps, "keeper").runOnce()).toBeGreaterThanOrEqual(4);
    const left = await api.sql`select message_id from event_keys where tenant_id = ${tenantId} order by 1`;
    expect(left.map((row) => row.message_id)).toEqual(["for-ever", "kept"]);
    const [ledger] = await api.sql`select count(*)::int as n, count(rolled_up_at)::int as done
      from event_batches where tenant_id = ${tenantId}`;
    expect(ledger).toEqual({ n: 1, done: 0 });
    const [kept] =
      await api.sql`select sum(stored)::int as n from ingest_hourly_stats where tenant_id = ${tenantId}`;
    expect(kept?.n).toBe(3);
  });
});
