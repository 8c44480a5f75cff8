import { afterAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import {
  cleanup,
  createTestDatabase,
  eventually,
  runFootfall,
  startPostgres,
  startRedis,
  startServer,
  startWorker,
  testEnv,
} from "../harness.ts";

afterAll(cleanup);

describe("databases", () => {
  test("are migrated, empty and apart from each other, also when made at once", async () => {
    const databases = await Promise.all([createTestDatabase(), createTestDatabase(), createTestDatabase()]);
    for (const { url } of databases) {
      const sql = postgres(url, { max: 1 });
      expect(await sql`select 1 from pg_class where relname = 'event_batches'`).toHaveLength(1);
      await sql`create table only_mine ()`.simple();
      await sql.end();
    }
    await Promise.all(databases.map((database) => database.drop()));
    await expect(postgres(databases[0]?.url ?? "", { max: 1 })`select 1`).rejects.toThrow(/does not exist/);
  });

  test("of an own cluster survive every kind of stop", async () => {
    const cluster = await startPostgres();
    const query = async <T>(run: (sql: postgres.Sql) => Promise<T>) => {
      const sql = postgres(cluster.url, { max: 1 });
      return run(sql).finally(() => sql.end());
    };
    await query((sql) => sql`create table kept as select 1 as n`.simple());
    for (const mode of ["smart", "fast", "immediate"] as const) {
      await cluster.stop(mode);
      await expect(query((sql) => sql`select`)).rejects.toThrow();
      await cluster.start();
      expect(await query(async (sql) => [...(await sql`select n from kept`)])).toEqual([{ n: 1 }]);
    }
  });
});

test("redis can be paused, killed and started again on its port", async () => {
  const redis = await startRedis({ settings: { maxmemory: "8mb" } });
  const ping = () => fetchReply(redis.port, "PING\r\n");
  expect(await fetchReply(redis.port, "CONFIG GET maxmemory\r\n")).toContain("8388608");
  redis.pause();
  expect(await ping()).toBe("");
  redis.resume();
  await eventually(async () => expect(await ping()).toStartWith("+PONG"));
  const first = redis.pid;
  await redis.kill();
  expect(await ping()).toBe("");
  await redis.start();
  expect(redis.pid).not.toBe(first);
  expect(await ping()).toStartWith("+PONG");
  redis.pause();
  await redis.stop();
  expect(await ping()).toBe("");
});

describe("the program", () => {
  test("serves and works on servers of its own, and stops on SIGTERM", async () => {
    const [database, redis] = await Promise.all([createTestDatabase(), startRedis()]);
    const env = testEnv({ DATABASE_URL: database.url, REDIS_URL: redis.url });
    const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect(await server.stop()).toBe(0);
    expect(await worker.stop()).toBe(0);
  });

  test("that cannot start is reported with its own words", async () => {
    await expect(startServer(testEnv({ PORT: "many" }))).rejects.toThrow(/PORT must be a number/);
    const { exitCode, stderr } = await runFootfall(["migrate"], testEnv());
    expect(exitCode).toBe(1);
    expect(stderr).toContain("Postgres does not answer");
  });
});

describe("eventually", () => {
  test("waits for a check that throws, and for one that returns false", async () => {
    let calls = 0;
    const value = await eventually(
      () => {
        calls += 1;
        if (calls === 1) throw new Error("not yet");
        return calls > 2 && "done";
      },
      { intervalMs: 1 },
    );
    expect(value).toBe("done");
    const never = eventually(() => expect(1).toBe(2), { timeoutMs: 20, intervalMs: 5 });
    await expect(never).rejects.toThrow(/toBe/);
  });
});

/** What a Redis answers within 300 ms; empty when it does not. */
function fetchReply(port: number, command: string): Promise<string> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(""), 300);
    const settle = (reply: string) => {
      clearTimeout(timer);
      resolve(reply);
    };
    Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        open: (socket) => void socket.write(command),
        data(socket, data) {
          settle(data.toString());
          socket.end();
        },
        error: () => settle(""),
        connectError: () => settle(""),
      },
    }).catch(() => settle(""));
  });
}
