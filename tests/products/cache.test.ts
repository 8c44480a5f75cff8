/**
 * G9: a product is read from the cache, and no read that begins after a write's answer is older
 * than the write.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { waitUntilReady } from "../../src/redis/client.ts";
import { createTenant, createTestApi, createTestDeps, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";
import { pathOf, productInput } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
/** Another process on the same stores, as far as either can tell. */
let second: ReturnType<typeof createApp>;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  const deps = createTestDeps(api.config);
  await waitUntilReady(deps.redis, 5_000);
  second = createApp(deps, { ...api.config, version: "test" });
});
afterAll(cleanup);

const call = (method: string, path: string, json?: object) =>
  api.call(method, path, { as: tenant.key, json });
const create = async (overrides = {}) => (await call("POST", "/products", productInput(overrides))).body;
const readThere = async (path: string) => {
  const response = await second.request(path, { headers: { "x-api-key": tenant.key } });
  // biome-ignore lint/suspicious/noExplicitAny: whatever the answer holds
  return { status: response.status, body: (await response.json()) as any };
};
/** Past everything: what a cached answer does not notice. */
const changeBehind = (id: string, name: string) =>
  api.sql`update products set name = ${name} where tenant_id = ${tenant.tenantId} and id = ${id}`;

describe("GET /products/:id", () => {
  test("is answered from the cache after the first time, in every process", async () => {
    const { id } = await create();
    await call("GET", pathOf(id));
    await changeBehind(id, "Changed behind");
    // The entry is stored after the answer was given.
    await eventually(async () => expect((await readThere(pathOf(id))).body.name).toBe("Green tea"));
    expect((await call("GET", pathOf(id))).body.name).toBe("Green tea");
  });

  test.each([
    ["PATCH", "", { price: 1 }],
    ["PUT", "", { name: "Black tea", price: 2 }],
    ["DELETE", "", undefined],
  ] as const)("%s ends what was cached, of absence too", async (method, suffix, json) => {
    const { id } = await create();
    expect((await readThere(pathOf(id))).status).toBe(200);
    expect((await call("GET", pathOf(id))).status).toBe(200);
    const { status, body } = await call(method, pathOf(id) + suffix, json);
    for (const read of [() => readThere(pathOf(id)), () => call("GET", pathOf(id))])
      expect(await read()).toMatchObject(status === 204 ? { status: 404 } : { status: 200, body });
    if (status !== 204) return;
    expect((await call("POST", `${pathOf(id)}/restore`)).status).toBe(200);
    expect((await readThere(pathOf(id))).status).toBe(200);
  });

  test("an id that was asked for too early is found once it is there", async () => {
    expect((await readThere("/products/early")).status).toBe(404);
    expect((await readThere("/products/early")).status).toBe(404);
    await create({ id: "early" });
    expect((await readThere("/products/early")).status).toBe(200);
  });

  test("a change that was made already ends what was cached, too: its first answer may have been lost", async () => {
    const { id } = await create();
    await call("GET", pathOf(id));
    await changeBehind(id, "Committed, then killed");
    await call("PATCH", pathOf(id), { name: "Committed, then killed" });
    expect((await readThere(pathOf(id))).body.name).toBe("Committed, then killed");
  });
});

test.each([
  ["PATCH", { price: 1 }, 412],
  ["POST", { id: "refused", name: "Tea", price: 1 }, 409],
] as const)("a %s that is refused ends what was cached, too", async (method, json, status) => {
  const id = method === "POST" ? "refused" : (await create()).id;
  await readThere(pathOf(id));
  if (method === "POST")
    await api.sql`insert into products (tenant_id, id, name, price, created_at, updated_at)
      values (${tenant.tenantId}, ${id}, 'Committed, then killed', 1, now(), now())`;
  else await changeBehind(id, "Committed, then killed");
  const path = method === "POST" ? "/products" : pathOf(id);
  const headers = { "if-match": '"2-EUR"' };
  expect((await api.call(method, path, { as: tenant.key, json, headers })).status).toBe(status);
  expect((await readThere(pathOf(id))).body.name).toBe("Committed, then killed");
});

test("categories are cached, and follow every change", async () => {
  const categories = async () => (await readThere("/products/categories")).body.items;
  const { id } = await create({ category: "tea" });
  expect(await categories()).toEqual([{ category: "tea", products: 1 }]);
  await call("PATCH", pathOf(id), { category: "coffee" });
  expect(await categories()).toEqual([{ category: "coffee", products: 1 }]);
  await call("DELETE", pathOf(id));
  expect(await categories()).toEqual([]);
});

test("with writers and readers racing in two processes no read is older than the last answered write", async () => {
  const products = await Promise.all(Array.from({ length: 3 }, () => create()));
  const answered = new Map<string, number>(products.map(({ id }) => [id, 1]));
  let reads = 0;
  let running = true;
  const reader = async (turn: number) => {
    for (let n = turn; running; n += 1) {
      const { id } = products[n % products.length];
      const atLeast = answered.get(id) ?? 0;
      const { body } = n % 2 === 0 ? await readThere(pathOf(id)) : await call("GET", pathOf(id));
      if (body.version < atLeast)
        throw new Error(`read version ${body.version} after ${atLeast} was answered`);
      reads += 1;
    }
  };
  const readers = Promise.all(Array.from({ length: 6 }, (_, n) => reader(n)));
  for (let n = 0; n < 150; n += 1) {
    const { id } = products[n % products.length];
    const { body } = await call("PATCH", pathOf(id), { price: n + 10 });
    answered.set(id, body.version);
  }
  running = false;
  await readers;
  expect(reads).toBeGreaterThan(150);
  for (const { id } of products) expect((await readThere(pathOf(id))).body.version).toBe(51);
}, 60_000);

test("a change that meets a silent Redis is seen once Redis is back, though nobody writes again", async () => {
  const { id } = await create();
  await call("GET", pathOf(id));
  await eventually(async () => expect((await call("GET", pathOf(id))).body.version).toBe(1));
  api.redis.pause();
  expect((await call("PATCH", pathOf(id), { price: 1 })).status).toBe(200);
  api.redis.resume();
  await eventually(async () => {
    expect((await call("GET", pathOf(id))).body.version).toBe(2);
    expect((await readThere(pathOf(id))).body.version).toBe(2);
  });
});

// The last one: this file's Redis does not come back.
test("without Redis reads answer from Postgres, and writes go on", async () => {
  const { id } = await create();
  await call("GET", pathOf(id));
  await api.redis.stop();
  expect((await call("GET", pathOf(id))).body.version).toBe(1);
  expect((await call("PATCH", pathOf(id), { price: 1 })).status).toBe(200);
  expect((await call("GET", pathOf(id))).body.version).toBe(2);
  expect((await readThere("/products/categories")).status).toBe(200);
});
