/**
 * Connections whose other end fell silent, as when a host fails: no answer, no end. What runs on
 * them fails once, nothing runs twice, and idle connections are left alone.
 */
import { afterAll, expect, test } from "bun:test";
import { connect, type Sql } from "../../src/db/client.ts";
import { isAway } from "../../src/db/failures.ts";
import { createTransactions } from "../../src/db/transaction.ts";
import { createTenant, createTestApi, eventInput, rollUpAll } from "../factories.ts";
import { cleanup, createTestDatabase, eventually, onCleanup } from "../harness.ts";
import { startSilentProxy } from "../silent-proxy.ts";

const TIMEOUT_MS = 1_000;
/** The statement timeout, and what a busy machine may add. */
const SOON_MS = 8_000;

afterAll(cleanup);

async function createLog() {
  const { url } = await createTestDatabase();
  const proxy = await startSilentProxy(url);
  const direct = openPool(url, 1, 0);
  await direct`create table log (entry text not null)`;
  const entries = async () => (await direct`select entry from log order by entry`).map(({ entry }) => entry);
  return { url, proxy, entries };
}

function openPool(url: string, max: number, timeoutMs: number): Sql {
  const pool = connect({ url, prepare: true, applicationName: "test" }, max, timeoutMs);
  onCleanup(() => pool.end({ timeout: 1 }));
  return pool;
}

/** Passes when `work` fails soon as on a lost connection. */
async function failureOf(work: PromiseLike<unknown>): Promise<void> {
  const result = await Promise.race([
    Promise.resolve(work).then(
      () => "no failure",
      (error) => error,
    ),
    Bun.sleep(SOON_MS).then(() => "still waiting"),
  ]);
  expect(isAway(result), String(result)).toBe(true);
}

test.concurrent("a write without an answer fails once, is not repeated, and the next one has a connection", async () => {
  const { proxy, entries } = await createLog();
  const pool = openPool(proxy.url, 1, TIMEOUT_MS);
  const write = (entry: string) => pool`insert into log values (${entry})`;
  await write("a");
  proxy.silence();
  // The connection knows this statement, so it arrives in one piece and is committed; the second
  // waits behind it.
  await Promise.all([failureOf(write("b")), failureOf(write("c"))]);
  await write("d");
  expect(await entries()).toEqual(["a", "b", "c", "d"]);
});

test.concurrent("a transaction without an answer ends, also at its commit, and others begin", async () => {
  const { proxy, entries } = await createLog();
  const transaction = createTransactions(openPool(proxy.url, 2, TIMEOUT_MS), 2);
  const run = (entry: string, before: () => void = () => {}) =>
    transaction(async (tx) => {
      await tx`insert into log values (${entry})`;
      before();
      return true;
    });
  await run("a");
  await failureOf(run("b", proxy.silence));
  await run("c");
  proxy.silence();
  // That BEGIN is never answered, so nothing of it is sent.
  await failureOf(run("never"));
  await run("d");
  expect(await entries()).toEqual(["a", "b", "c", "d"]);
});

test.concurrent("an idle connection is left alone for longer than a silence", async () => {
  const { url } = await createLog();
  const pool = openPool(url, 1, TIMEOUT_MS);
  const pid = async () => (await pool`select pg_backend_pid() as pid`)[0]?.pid;
  const before = await pid();
  await Bun.sleep(TIMEOUT_MS + 4_000);
  expect(await pid()).toBe(before);
}, 20_000);

test.concurrent("after a silence, the API reads, looks up and writes again without a restart", async () => {
  const { url } = await createTestDatabase();
  const proxy = await startSilentProxy(url);
  const api = await createTestApi({ DATABASE_URL: proxy.url, CACHE_STALE_MS: "0" });
  const tenant = await createTenant(api);
  const post = () => api.call("POST", "/events", { as: tenant.key, json: eventInput() });
  let days = 10;
  const read = () => {
    days += 1;
    return api.call("GET", `/analytics/summary?days=${days}`, { as: tenant.key });
  };
  expect((await post()).status).toBe(202);
  await rollUpAll(api);
  // All connections of the pools that answers come from.
  await Promise.all(Array.from({ length: 12 }, read));

  proxy.silence();
  const silentAt = performance.now();
  // Each is an uncached question. The first ones wait for dead connections.
  await eventually(
    async () => {
      const { status } = await Promise.race([read(), Bun.sleep(500).then(() => ({ status: 0 }))]);
      expect(status).toBe(200);
    },
    { timeoutMs: 30_000 },
  );
  console.log(`read again ${(performance.now() - silentAt).toFixed(0)} ms after the connections fell silent`);
  // The first one fails with the connection that it was written to, at the timeout of a write.
  await eventually(async () => expect((await post()).status).toBe(202), { timeoutMs: 60_000 });
  expect(api.deps.readGuard.state()).toBe("closed");
}, 120_000);
