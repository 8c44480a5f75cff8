/**
 * An import that is killed, cut off from Postgres, run twice, or beside workers: in the end every
 * row counts once.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, spawnFootfall, startWorker } from "../harness.ts";
import { CLEAN, createFiles, importFile, readFigures, verify } from "./fixtures.ts";

const ROWS = 30_000;

let api: TestApi;
let tenant: TestTenant;
let file: string;

beforeAll(async () => {
  api = await createTestApi();
  // Every third row is an exact duplicate of the one before it.
  const row = (n: number) => {
    const day = String((n % 28) + 1).padStart(2, "0");
    return `${n},SKU-${n % 97},"row ""${n}""",2,2011-03-${day} 12:00:00,1.005,${n % 500},EIRE`;
  };
  const rows = Array.from({ length: ROWS }, (_, n) => row(n % 3 === 2 ? n - 1 : n));
  const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
  file = await createFiles()("sales.csv", [header, ...rows].join("\n"));
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const options = ["--preset", "online-retail"];
const importAll = () => importFile(api, tenant, file, ...options);
const spawnImport = () => spawnFootfall(["import", file, "--tenant", tenant.slug, ...options], api.env);

async function countStored(): Promise<number> {
  const [row] = await api.sql`
    select count(*)::int as stored from events where tenant_id = ${tenant.tenantId}`;
  return row?.stored;
}

const someStored = () =>
  eventually(async () => (await countStored()) > 0, { timeoutMs: 20_000, intervalMs: 5 });

async function expectEveryRowOnce(): Promise<void> {
  expect(await countStored()).toBe(ROWS);
  expect((await readFigures(api.sql, tenant.tenantId)).total).toBe("60300");
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
}

test("killed in the middle and started again", async () => {
  const first = spawnImport();
  await someStored();
  first.kill("SIGKILL");
  await first.exited;
  expect(await countStored()).toBeLessThan(ROWS);
  expect((await importAll()).exitCode).toBe(0);
  await expectEveryRowOnce();
});

test("cut off from Postgres: says so and what was stored, and goes on when started again", async () => {
  const first = spawnImport();
  await someStored();
  await api.sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'footfall cli' and datname = current_database()`;
  expect(await first.exited).toBe(1);
  expect(first.stderr()).toContain("Stopped after");
  expect(first.stderr()).toContain("Postgres does not answer");
  expect((await importAll()).exitCode).toBe(0);
  await expectEveryRowOnce();
});

test("twice at once, beside two workers", async () => {
  const workers = await Promise.all([startWorker(api.env), startWorker(api.env)]);
  const imports = await Promise.all([importAll(), importAll()]);
  for (const { exitCode, stderr } of imports) {
    expect(stderr).not.toContain("could not be rolled up");
    expect(exitCode).toBe(0);
  }
  await expectEveryRowOnce();
  for (const worker of workers) expect(await worker.stop()).toBe(0);
});
