/** Pools of postgres.js: their first query, and what a lost connection leaves behind. */
import { afterAll, describe, expect, test } from "bun:test";
import { connect, type Sql } from "../../src/db/client.ts";
import type { Transaction } from "../../src/db/transaction.ts";
import { cleanup, createTestDatabase } from "../harness.ts";

afterAll(cleanup);

test("arrays of text arrive as they are, also in the first statement of a pool", async () => {
  const { url } = await createTestDatabase();
  const pool = connect({ url, prepare: true, applicationName: "test" }, 1, 5_000);
  const texts = ["a", 'b"c\\d', "", "null", "{,}", "it's"];
  for (const _ of ["before types are fetched", "after"]) {
    const [row] = await pool`select ${pool.array(texts)}::text[] as texts`;
    expect(row?.texts).toEqual(texts);
  }
  await pool.end();
});

/**
 * Tests patches/postgres@3.4.9.patch: without it the first one ends the process, and the others
 * hang or fail.
 */
describe("a transaction whose connection is terminated", () => {
  const ROUNDS = 8;

  async function expectOrderlyEnd(pool: Sql, work: (tx: Transaction) => Promise<unknown>): Promise<void> {
    for (let round = 0; round < ROUNDS; round += 1) {
      const { promise: started, resolve } = Promise.withResolvers<number>();
      const ended = pool.begin(async (tx) => {
        const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid`;
        resolve(row?.pid ?? 0);
        await work(tx);
      });
      const outcome = ended.then(
        () => "committed",
        () => "rejected",
      );
      await pool`select pg_terminate_backend(${await started})`;
      expect(await outcome).toBe("rejected");
      // Others get a connection at once, also in place of the lost one.
      await Promise.all(Array.from({ length: 4 }, () => pool`select 1`));
    }
  }

  const seen: Record<string, (tx: Transaction) => Promise<unknown>> = {
    "in a statement": (tx) => tx`select pg_sleep(5)`,
    "with statements behind it": (tx) => Promise.all([tx`select pg_sleep(5)`, tx`select 1`, tx`select 2`]),
    "in a long one": (tx) => tx`select pg_sleep(5), ${"x".repeat(5_000)}::text`,
  };

  test.each(Object.entries(seen))("%s: is rejected, and the pool lives", async (_, work) => {
    const { url } = await createTestDatabase();
    const pool = connect({ url, prepare: true, applicationName: "test" }, 2, 5_000);
    await expectOrderlyEnd(pool, work);
    await pool.end();
  });

  test("between statements: the rest of it runs nowhere", async () => {
    const { url } = await createTestDatabase();
    const pool = connect({ url, prepare: true, applicationName: "test" }, 2, 5_000);
    await pool`create table marks (n int)`;
    const { promise: started, resolve } = Promise.withResolvers<number>();
    const { promise: reconnected, resolve: goOn } = Promise.withResolvers<void>();
    const outcomes: string[] = [];
    const ended = pool.begin(async (tx) => {
      const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid`;
      resolve(row?.pid ?? 0);
      await reconnected;
      const mark = tx`insert into marks values (1)`;
      outcomes.push(
        await mark.then(
          () => "ran",
          () => "rejected",
        ),
      );
    });
    const outcome = ended.then(
      () => "committed",
      () => "rejected",
    );
    await pool`select pg_terminate_backend(${await started})`;
    expect(await outcome).toBe("rejected");
    await Promise.all(Array.from({ length: 8 }, () => pool`select pg_sleep(0.01)`));
    goOn();
    await Bun.sleep(0);
    const [row] = await pool<{ n: number }[]>`select count(*)::int as n from marks`;
    expect(row?.n).toBe(0);
    expect(outcomes).toEqual(["rejected"]);
    await pool.end();
  });
});
