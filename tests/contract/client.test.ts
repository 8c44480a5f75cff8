/**
 * A client generated from the document by orval, as a dashboard would use it: it compiles under
 * every strict option of TypeScript, its optional arguments are optional, and it works against a
 * running server.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { generate } from "orval";
import {
  createPerson,
  createTenant,
  createTestApi,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, startServer, temporaryDirectory } from "../harness.ts";

const ROOT = join(import.meta.dir, "../..");
const COMPILE_MS = 120_000;

let api: TestApi;
let tenant: TestTenant;
let folder: string;
let token: string;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  ({ token } = await createPerson(api, tenant.tenantId, "admin"));
  const server = await startServer(api.env);
  folder = temporaryDirectory("client");
  const document = join(folder, "openapi.json");
  await Bun.write(document, await (await fetch(`${server.url}/openapi.json`)).text());
  await generate({
    input: { target: document },
    // Ids of products are almost any text.
    output: {
      target: join(folder, "client.ts"),
      client: "fetch",
      baseUrl: server.url,
      urlEncodeParameters: true,
      // Of a body in several media types it would name none.
      override: { contentType: { exclude: ["application/x-ndjson", "text/plain"] } },
    },
  });
}, COMPILE_MS);
afterAll(cleanup);

const COMPILER_OPTIONS = {
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noEmit: true,
  target: "esnext",
  module: "esnext",
  moduleResolution: "bundler",
  lib: ["esnext", "dom", "dom.iterable"],
  types: [],
};

/** What tsc says of the client and of a file that uses it. */
async function compile(use: string): Promise<string> {
  await Bun.write(join(folder, "use.ts"), use);
  await Bun.write(
    join(folder, "tsconfig.json"),
    JSON.stringify({ compilerOptions: COMPILER_OPTIONS, files: ["client.ts", "use.ts"] }),
  );
  const tsc = Bun.spawn(
    [process.execPath, "--bun", join(ROOT, "node_modules/typescript/bin/tsc"), "-p", folder],
    {
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  const [out, err] = await Promise.all([new Response(tsc.stdout).text(), new Response(tsc.stderr).text()]);
  await tsc.exited;
  return out + err;
}

/** What is optional may be left out; what has a name has its type. */
const RIGHT = `
import * as client from "./client";
export const asked = client.queryMetrics({ metrics: ["revenue"] });
export const key = client.createApiKey({ name: "n", scopes: ["events:write"] });
export const purchase = client.createPurchase({ productId: "tea" });
export const list = client.listProducts({ status: "active", limit: 5 });
export const all = client.listProducts();
export const top = client.getTopProducts({ skipCache: true, sortBy: "revenue" });
export const bulk = client.createEvents({ events: [{ type: "view", anonymousId: "a" }] }, { strict: true });
export const webhook = client.createWebhook({ url: "https://hooks.example/", topics: ["order.created"] });
export const registered = client.register({ email: "a@example.com", password: "12345678" });
const role: client.Role = "seller";
const status: client.OrderStatus = "shipped";
const scope: client.Scope = "orders:read";
const type: client.EventType = "my_own_type";
export const names = [role, status, scope, type];
export async function next(): Promise<string | null> {
  const { data, status } = await client.listProducts({ cursor: "x" });
  return status === 200 ? data.nextCursor : null;
}
`;
const WRONG = [
  'client.queryMetrics({ dimensions: ["day"] })',
  'client.createApiKey({ name: "n", kind: "public" })',
  'client.listProducts({ status: "deleted" })',
  'client.getTopProducts({ skipCache: "true" })',
  'client.updateOrderStatus("id", { status: "sent" })',
];

test(
  "compiles, with what is optional left out, and refuses what is wrong",
  async () => {
    expect(await compile(RIGHT)).toBe("");
    const wrong = WRONG.map((call, n) => `export const wrong${n} = ${call};`).join("\n");
    const told = await compile(`import * as client from "./client";\n${wrong}\n`);
    const lines = [...told.matchAll(/use\.ts\((\d+),/g)].map(([, line]) => Number(line) - 2);
    expect([...new Set(lines)]).toEqual(WRONG.map((_, n) => n));
  },
  COMPILE_MS,
);

interface ClientAnswer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tsc above checks the generated types
  data: any;
  headers: Headers;
}

test("works: more than twenty operations of a running server", async () => {
  const client: Record<string, (...args: unknown[]) => Promise<ClientAnswer>> = await import(
    join(folder, "client.ts")
  );
  const called = new Set<string>();
  /** Calls an operation with its arguments, as `token`, and expects the status of its success. */
  const call = async (name: string, status: number, ...args: unknown[]) => {
    const answer = await client[name]?.(...args, { headers: { authorization: `Bearer ${token}` } });
    expect(`${name} ${answer?.status} ${JSON.stringify(answer?.status === status ? "" : answer?.data)}`).toBe(
      `${name} ${status} ""`,
    );
    expect(answer?.headers.get("x-request-id")).toBeTruthy();
    called.add(name);
    return answer?.data;
  };

  expect((await call("getMe", 200)).user.role).toBe("admin");
  expect((await call("getTenant", 200)).slug).toBe(tenant.slug);
  await call("updateTenant", 200, { lowStockThreshold: 3 });
  await call("createProduct", 201, {
    id: "tea/1",
    name: "Green tea",
    price: 4.95,
    quantity: 10,
    category: "tea",
  });
  expect((await call("getProduct", 200, "tea/1")).price).toBe(4.95);
  expect((await call("updateProduct", 200, "tea/1", { price: 5 })).version).toBe(2);
  expect((await call("listProducts", 200, { limit: 1 })).items.length).toBe(1);
  expect((await call("listProducts", 200, { page: 1, minPrice: 1 })).total).toBe(1);
  expect((await call("listCategories", 200)).items).toEqual([{ category: "tea", products: 1 }]);
  await call("createEvent", 202, { type: "view", productId: "tea/1", anonymousId: "v" }, {});
  const bulk = {
    events: [{ type: "view", productId: "tea/1", anonymousId: "w", properties: { country: "DE" } }],
  };
  expect((await call("createEvents", 202, bulk, { strict: true })).inserted).toBe(1);
  const { items } = await call("listEvents", 200, { type: "view" });
  expect((await call("getEvent", 200, items[0].id)).type).toBe("view");
  await rollUpAll(api);
  expect((await call("getSummary", 200, { days: 7, skipCache: true })).totals.views).toBe(2);
  expect((await call("getTopProducts", 200, { skipCache: true })).items[0].productId).toBe("tea/1");
  expect((await call("queryMetrics", 200, { metrics: ["views"] })).rows).toEqual([{ views: 2 }]);
  expect((await call("getFunnel", 200, { steps: "view,purchase" })).steps[0].type).toBe("view");
  await call("getRealtime", 200, {});
  expect((await call("createPurchase", 201, { productId: "tea/1" })).amount).toBe(5);
  const order = {
    customerName: "A",
    customerEmail: "a@example.com",
    items: [{ productId: "tea/1", quantity: 1 }],
  };
  const { id } = await call("createOrder", 202, order);
  expect((await call("getOrder", 200, id)).status).toBe("queued");
  expect((await call("listOrders", 200, { status: "queued" })).items.length).toBe(1);
  const key = await call("createApiKey", 201, { name: "k", kind: "publishable" });
  expect((await call("listApiKeys", 200, {})).items[0].kind).toBe("publishable");
  await call("revokeApiKey", 204, key.id);
  await call("inviteMember", 201, { email: "grace@example.com", role: "analyst" });
  expect((await call("listInvitations", 200, {})).items.length).toBe(1);
  expect((await call("listDeadLetters", 200, {})).items).toEqual([]);
  expect((await call("listNotifications", 200, { unread: true })).nextCursor).toBeNull();
  await call("clearCache", 204);
  await call("deleteProduct", 204, "tea/1");
  expect(called.size).toBeGreaterThan(20);
});
