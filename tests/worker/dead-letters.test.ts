/**
 * A batch that can't be rolled up stops no other, becomes a dead letter, is listed with its error,
 * and retried later.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createSweeper } from "../../worker/jobs/sweeper.ts";
import { createTenant, createTestApi, eventInput, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, runFootfall } from "../harness.ts";
import { orderInput } from "../orders/shop.ts";

let api: TestApi;
let healthy: TestTenant;
let poisoned: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  healthy = await createTenant(api);
  poisoned = await createTenant(api);
  // Every rollup of this tenant fails in Postgres, with an error of the data.
  await api.sql`update tenants set time_zone = 'Nowhere/Land' where id = ${poisoned.tenantId}`;
});
afterAll(cleanup);

const MAX_ATTEMPTS = 5;

async function ingest({ key }: TestTenant, batches: number): Promise<void> {
  for (let n = 0; n < batches; n += 1)
    await api.call("POST", "/events/bulk", { as: key, json: { events: [eventInput(), eventInput()] } });
}

const mend = () => api.sql`update tenants set time_zone = 'UTC' where id = ${poisoned.tenantId}`;

async function waiting(): Promise<{ tenantId: string; batchId: string }[]> {
  return api.deps.rollups.findOverdue(-1_000, 200);
}

async function ledger({ tenantId }: TestTenant) {
  const [row] = await api.sql`select count(*) filter (where rolled_up_at is not null)::int as done,
    count(*) filter (where dead_lettered_at is not null)::int as dead, max(attempts) as attempts
    from event_batches where tenant_id = ${tenantId}`;
  return row;
}

async function counted({ tenantId }: TestTenant): Promise<number> {
  const [row] =
    await api.sql`select coalesce(sum(events), 0)::int as n from event_hourly_stats where tenant_id = ${tenantId}`;
  return row?.n;
}

/** The next retry of every tenant that fails, at once; returns how many batches were rolled up. */
async function retryNow(): Promise<number> {
  await api.sql`update rollup_failures set retry_at = now() where retry_at is not null`;
  return api.deps.rollupRetries.retryDue();
}

async function killOff(): Promise<void> {
  await api.deps.rollups.rollUp(await waiting());
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) await retryNow();
}

test("one poisonous batch among fifty: forty-nine are counted at the first try", async () => {
  await ingest(healthy, 20);
  await ingest(poisoned, 1);
  await ingest(healthy, 29);
  expect(await api.deps.rollups.rollUp(await waiting())).toBe(49);
  expect(await counted(healthy)).toBe(98);
  // Its first try of its own is still to come.
  expect(await ledger(poisoned)).toEqual({ done: 0, dead: 0, attempts: 0 });
  await mend();
  expect(await retryNow()).toBe(1);
});

test("after five tries it is a dead letter, and tried no more", async () => {
  await ingest(poisoned, 3);
  await killOff();
  expect(await ledger(poisoned)).toEqual({ done: 0, dead: 3, attempts: MAX_ATTEMPTS });
  expect(await waiting()).toEqual([]);
  const metrics = await api.deps.metrics.registry.getSingleMetricAsString(
    "footfall_batches_dead_lettered_total",
  );
  expect(Number(metrics.split(" ").at(-1))).toBeGreaterThanOrEqual(3);
});

test("the sweeper leaves what is poisonous to the retries and keeps serving the others", async () => {
  await ingest(poisoned, 2);
  await api.sql`update event_batches set received_at = now() - interval '10 minutes' where rolled_up_at is null`;
  const sweeper = createSweeper(api.deps, "test");
  for (let round = 0; round < MAX_ATTEMPTS; round += 1) {
    await ingest(healthy, 1);
    await api.sql`update event_batches set received_at = now() - interval '5 minutes'
      where tenant_id = ${healthy.tenantId} and rolled_up_at is null`;
    expect(await sweeper.runOnce()).toBe(1);
  }
  expect(await ledger(poisoned)).toEqual({ done: 0, dead: 0, attempts: 0 });
  expect(await ledger(healthy)).toMatchObject({ done: MAX_ATTEMPTS, dead: 0 });
});

describe("listing and retrying", () => {
  test("over HTTP: listed with the error, 202, and counted once the cause is mended", async () => {
    await ingest(poisoned, 2);
    await killOff();
    const listed = await api.call("GET", "/queue/dead-letters", { as: poisoned.key });
    expect(listed.body.items.length).toBe(2);
    expect(listed.body.items[0]).toEqual({
      id: expect.any(String),
      kind: "event_batch",
      events: 2,
      attempts: MAX_ATTEMPTS,
      error: expect.stringContaining("Nowhere/Land"),
      receivedAt: expect.any(String),
      deadLetteredAt: expect.any(String),
    });
    const retry = (id: string) => api.call("POST", `/queue/dead-letters/${id}/retry`, { as: poisoned.key });
    await mend();
    for (const { id } of listed.body.items) expect((await retry(id)).status).toBe(202);
    expect((await retry(listed.body.items[0].id)).status).toBe(404);
    expect((await retry("not-an-id")).status).toBe(404);
    expect(await retryNow()).toBe(2);
    expect(await counted(poisoned)).toBe(4);
    expect((await api.call("GET", "/queue/dead-letters", { as: poisoned.key })).body.items).toEqual([]);
  });

  test("a retry before the cause is mended gives it all its tries again", async () => {
    await ingest(poisoned, 1);
    await killOff();
    const { body } = await api.call("GET", "/queue/dead-letters", { as: poisoned.key });
    await api.call("POST", `/queue/dead-letters/${body.items[0].id}/retry`, { as: poisoned.key });
    expect(await ledger(poisoned)).toEqual({ done: 0, dead: 0, attempts: 0 });
    await killOff();
    expect(await ledger(poisoned)).toEqual({ done: 0, dead: 1, attempts: MAX_ATTEMPTS });
  });

  test("by the CLI", async () => {
    await ingest(poisoned, 1);
    await killOff();
    const tenant = ["--tenant", poisoned.slug];
    const listed = await runFootfall(["dead-letters", "list", ...tenant], api.env);
    expect(listed).toMatchObject({ exitCode: 0, stderr: "" });
    expect(listed.stdout).toMatch(/^[0-9a-f-]{36} {2}\S+Z {2}2 events {2}5 tries {2}.*Nowhere\/Land/);
    await mend();
    const id = listed.stdout.slice(0, 36);
    const retried = await runFootfall(["dead-letters", "retry", id, ...tenant], api.env);
    expect(retried).toMatchObject({ exitCode: 0, stderr: "" });
    expect(await retryNow()).toBe(1);
    expect((await runFootfall(["dead-letters", "list", ...tenant], api.env)).stdout).toBe(
      "There are none.\n",
    );
    const again = await runFootfall(["dead-letters", "retry", id, ...tenant], api.env);
    expect(again.exitCode).toBe(1);
    expect(again.stderr).toContain("There is no such dead letter.");
    const unknown = await runFootfall(["dead-letters", "list", "--tenant", "nobody"], api.env);
    expect(unknown.exitCode).toBe(1);
    expect(unknown.stderr).toContain('There is no tenant "nobody"');
  });

  test("dead letters make verify fail and say where to look", async () => {
    await ingest(poisoned, 1);
    await killOff();
    await mend();
    const { exitCode, stdout } = await runFootfall(["verify", "--tenant", poisoned.slug], api.env);
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`dead-letters list --tenant ${poisoned.slug}`);
  });
});

test("dead letters of both kinds come page by page, in one order, each once, also those of one millisecond", async () => {
  await ingest(healthy, 5);
  for (let n = 0; n < 4; n += 1)
    await api.call("POST", "/orders", { as: healthy.key, json: orderInput({ groupId: `g-${n}` }) });
  await api.sql`update order_commands set state = 'dead', last_error = 'given up', finished_at = now()
    where tenant_id = ${healthy.tenantId}`;
  await api.sql`update event_batches set dead_lettered_at = now(), last_error = 'given up'
    where tenant_id = ${healthy.tenantId}`;
  // Apart by microseconds, which no answer tells.
  const instant = "2026-11-21T09:30:00.123";
  await api.sql`update event_batches b set received_at = (${instant} || n || 'Z')::timestamptz
    from (select batch_id, row_number() over (order by batch_id desc) + 99 as n from event_batches
      where tenant_id = ${healthy.tenantId}) numbered
    where b.tenant_id = ${healthy.tenantId} and b.batch_id = numbered.batch_id`;
  await api.sql`update order_commands set created_at = (${instant} || '500Z')::timestamptz
    where tenant_id = ${healthy.tenantId}`;
  const page = async (query: string) =>
    (await api.call("GET", `/queue/dead-letters${query}`, { as: healthy.key })).body;
  const { items: all, nextCursor } = await page("?limit=100");
  expect(nextCursor).toBeNull();
  expect(all.map(({ kind }: { kind: string }) => kind).sort()).toEqual([
    ...Array(5).fill("event_batch"),
    ...Array(4).fill("order_command"),
  ]);
  const ids = all.map(({ id }: { id: string }) => id);
  expect(ids).toEqual(ids.toSorted());
  const walked: string[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const next: { items: { id: string }[]; nextCursor: string | null } = await page(
      `?limit=2${cursor && `&cursor=${cursor}`}`,
    );
    expect(next.items.length).toBeLessThanOrEqual(2);
    walked.push(...next.items.map(({ id }) => id));
    cursor = next.nextCursor;
  }
  expect(walked).toEqual(ids);
  const foreign = await api.call("GET", "/queue/dead-letters?cursor=WyJ4IiwieSJd", { as: healthy.key });
  expect(foreign.status).toBe(400);
  const { stdout } = await runFootfall(["dead-letters", "list", "--tenant", healthy.slug], api.env);
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.slice(0, 36)),
  ).toEqual(ids);
});
