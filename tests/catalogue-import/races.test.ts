/**
 * Imports that meet each other, other writers, and rows that Postgres refuses: every row still
 * counts once.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { openUpload } from "../../src/http/upload.ts";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CSV, importCsv, readProducts, upload, workOff } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const ROWS = 6_000;
const file = (name: string) =>
  `id,sku,name,price\n${Array.from({ length: ROWS }, (_, n) => `p${n},s${n},${name},1\n`).join("")}`;
const report = async (id: string) =>
  (await api.call("GET", `/products/imports/${id}`, { as: tenant.key })).body;
const run = (holder: string, deps = api.deps) => deps.runNextImport({ holder, shouldStop: () => false });

test("a tenant's imports go one after the other, whatever the number of workers: the later file wins", async () => {
  const ids: string[] = [];
  for (const name of ["first", "second"]) ids.push((await upload(api, tenant.key, file(name))).body.importId);
  const others = [api.deps, createTestDeps(api.config), createTestDeps(api.config)];
  while ((await report(ids[1] ?? "")).status !== "succeeded")
    await Promise.all(others.map((deps, n) => run(`worker-${n}`, deps)));
  expect(await report(ids[0] ?? "")).toMatchObject({ rows: ROWS, created: ROWS, updated: 0, failed: 0 });
  expect(await report(ids[1] ?? "")).toMatchObject({ rows: ROWS, created: 0, updated: ROWS, failed: 0 });
  const products = await readProducts(api, tenant.tenantId);
  expect(products.filter(({ name, version }) => name !== "second" || version !== 2)).toEqual([]);
});

test("two workers that both believe to hold an import store each row once", async () => {
  const { body } = await upload(api, tenant.key, file("held"));
  const expire = setInterval(
    () => api.sql`update product_imports set held_until = now() where status = 'running'`.catch(() => {}),
    5,
  );
  const others = [api.deps, createTestDeps(api.config), createTestDeps(api.config)];
  while ((await report(body.importId)).status !== "succeeded")
    await Promise.all(others.map((deps, n) => run(`thief-${n}`, deps)));
  clearInterval(expire);
  expect(await report(body.importId)).toMatchObject({ rows: ROWS, created: ROWS, updated: 0, failed: 0 });
  const products = await readProducts(api, tenant.tenantId);
  expect(products.map(({ version }) => version)).toEqual(Array.from({ length: ROWS }, () => 1));
}, 60_000);

test("other writers in between: ids and skus that appear, versions that move on", async () => {
  const { tenantId } = tenant;
  await upload(api, tenant.key, file("imported"));
  const { body } = await upload(api, tenant.key, file("again"));
  let done = false;
  const rivals = (async () => {
    for (let n = 0; !done; n = (n + 37) % ROWS) {
      await api.sql`insert into products (tenant_id, id, sku, name, price, created_at, updated_at)
        values (${tenantId}, ${`rival-${n}`}, ${`s${n}`}, 'rival', 1, now(), now()) on conflict do nothing`;
      await api.sql`insert into products (tenant_id, id, name, price, created_at, updated_at)
        values (${tenantId}, ${`p${(n + 11) % ROWS}`}, 'rival', 1, now(), now())
        on conflict (tenant_id, id) do update set name = 'rival', version = products.version + 1`;
    }
  })();
  await workOff(api);
  done = true;
  await rivals;
  const end = await report(body.importId);
  expect(end).toMatchObject({ status: "succeeded", rows: ROWS });
  expect(end.created + end.updated + end.failed).toBe(ROWS);
  // A sku that a rival took first is a bad row, and nothing else is one.
  const errors =
    await api.sql`select distinct path, message from product_import_errors where tenant_id = ${tenantId}`;
  for (const error of errors)
    expect({ ...error }).toEqual({ path: "sku", message: "belongs to another product" });
  const [row] = await api.sql`
    select (select count(*)::int from products p where p.tenant_id = ${tenantId} and p.id like 'rival-%') as rivals,
      (select count(*)::int from product_import_errors e where e.import_id = ${body.importId}) as failed`;
  expect(row?.rivals).toBeGreaterThan(0);
  expect(row?.failed).toBe(end.failed);
}, 60_000);

test("a row that Postgres alone refuses is found, and reported like any other bad row", async () => {
  await api.sql`alter table products add constraint no_poison check (name not like 'poison%')`;
  try {
    const text = file("good")
      .replace("p17,s17,good", "p17,s17,poison")
      .replace("p5003,s5003,good", "p5003,s5003,poison");
    const end = await importCsv(api, tenant.key, text);
    expect(end).toMatchObject({ status: "succeeded", rows: ROWS, created: ROWS - 2, failed: 2 });
    expect(end.errors).toEqual([
      { line: 19, path: "", message: "could not be stored" },
      { line: 5_005, path: "", message: "could not be stored" },
    ]);
  } finally {
    await api.sql`alter table products drop constraint no_poison`;
  }
});

test("a batch that takes too long is halved, and later ones stay as small", async () => {
  // 1,000 of these rows take 6 s, the others none; a statement has 5.
  await api.sql`
    alter table products add constraint slow check (name <> 'slow' or pg_sleep(0.006)::text is not null)`;
  try {
    const rows = Array.from({ length: 2_000 }, (_, n) => `p${n},${n < 1_000 ? "slow" : "fast"},1\n`);
    const end = await importCsv(api, tenant.key, `id,name,price\n${rows.join("")}`);
    expect(end).toMatchObject({ status: "succeeded", rows: 2_000, created: 2_000, failed: 0 });
    expect(await rowsOfBatches()).toEqual([500, 500, 500, 500]);
  } finally {
    await api.sql`alter table products drop constraint slow`;
  }
}, 60_000);

test("a batch ends after a megabyte, however few rows that are", async () => {
  const rows = Array.from({ length: 300 }, (_, n) => `p${n},x,1,${"long ".repeat(2_000)}\n`);
  const end = await importCsv(api, tenant.key, `id,name,price,description\n${rows.join("")}`);
  expect(end).toMatchObject({ status: "succeeded", created: 300, failed: 0 });
  expect(await rowsOfBatches()).toEqual([105, 105, 90]);
});

/** How many products each transaction stored. */
async function rowsOfBatches(): Promise<number[]> {
  const rows = await api.sql`
    select count(*)::int as n from products where tenant_id = ${tenant.tenantId} group by xmin order by min(created_at)`;
  return rows.map(({ n }) => n);
}

test("an import that waits for a lock is not given up, however often it had to", async () => {
  await importCsv(api, tenant.key, "id,name,price\np,before,1\n");
  const { body } = await upload(api, tenant.key, "id,name,price\np,after,1\n");
  // Of the twenty attempts that an import has, nineteen.
  await api.sql`update product_imports set attempts = 19 where id = ${body.importId}`;
  const rival = await api.sql.reserve();
  try {
    await rival`begin`;
    await rival`select from products where tenant_id = ${tenant.tenantId} for update`;
    for (const holder of ["first", "second"])
      await expect(run(holder)).rejects.toMatchObject({ code: "55P03" });
    await rival`rollback`;
  } finally {
    rival.release();
  }
  await workOff(api);
  expect(await report(body.importId)).toMatchObject({ status: "succeeded", updated: 1 });
}, 30_000);

test("an import that is stopped goes on with another worker; one that kills every worker is given up", async () => {
  const { body } = await upload(api, tenant.key, file("stopped"));
  let batches = 0;
  const shouldStop = () => {
    batches += 1;
    return batches === 2;
  };
  expect(await api.deps.runNextImport({ holder: "leaving", shouldStop })).toBe(2_000);
  expect(await report(body.importId)).toMatchObject({ status: "running", rows: 2_000 });
  expect(await run("next")).toBe(ROWS - 2_000);
  expect(await report(body.importId)).toMatchObject({ status: "succeeded", created: ROWS });

  const { body: deadly } = await upload(api, tenant.key, file("deadly"));
  await api.sql`update product_imports set attempts = 20 where id = ${deadly.importId}`;
  await workOff(api);
  const end = await report(deadly.importId);
  expect(end).toMatchObject({ status: "failed", rows: 0 });
  expect(end.error).toContain("given up");
});

test("imports are limited by a policy of their own", async () => {
  const limited = await createTestApi({ RATE_LIMIT_IMPORT: "2/1m" });
  const { key } = await createTenant(limited);
  const statuses = [];
  for (let n = 0; n < 3; n += 1) statuses.push((await upload(limited, key, "name,price\nx,1\n")).status);
  expect(statuses).toEqual([202, 202, 429]);
});

test("a client that stops sending is cut off; one that is merely slow is not", async () => {
  const send = (everyMs: number, times: number) => {
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (times === 0) return controller.close();
        times -= 1;
        await Bun.sleep(everyMs);
        controller.enqueue(new Uint8Array(20_000));
      },
    });
    const request = new Request("http://localhost/", { method: "POST", body, headers: CSV });
    return openUpload(request, { mediaType: "text/csv", part: "file", maxBytes: 1e9, stallMs: 200 });
  };
  const read = async (chunks: AsyncIterable<Uint8Array>) => {
    let bytes = 0;
    for await (const chunk of chunks) bytes += chunk.length;
    return bytes;
  };
  expect(await read(send(50, 8))).toBe(160_000);
  expect(read(send(5_000, 1))).rejects.toThrow("hardly a byte");
});
