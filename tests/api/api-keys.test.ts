import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let admin: string;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  admin = (await createPerson(api, tenant.tenantId, "admin")).token;
});
afterAll(cleanup);

const create = (json: Record<string, unknown>) =>
  api.call("POST", "/api-keys", { as: admin, json: { name: "key", ...json } });
const send = (key: string) => api.call("POST", "/events", { as: key, json: eventInput() });
const list = (key: string) => api.call("GET", "/events", { as: key });

test("a secret key is shown once and stored as a hash", async () => {
  const { status, body } = await create({ name: " Server " });
  expect(status).toBe(201);
  expect(body).toEqual({
    id: expect.any(String),
    name: "Server",
    kind: "secret",
    prefix: body.key.slice(0, 10),
    scopes: ["events:write", "events:read", "analytics:read"],
    expiresAt: null,
    createdAt: expect.any(String),
    lastUsedAt: null,
    key: expect.stringMatching(/^ffs_[\w-]{43}$/),
  });
  const listed = await api.call("GET", "/api-keys", { as: admin });
  const { key, ...shown } = body;
  expect(listed.body.items).toContainEqual(shown);
  expect(JSON.stringify(listed.body)).not.toContain(key);
  const [row] = await api.sql`select row_to_json(k)::text as text from api_keys k where id = ${body.id}`;
  expect(row?.text).not.toContain(key);
  expect((await send(key)).status).toBe(202);
});

test("X-Api-Key works like a bearer, and lastUsedAt follows", async () => {
  const { body } = await create({});
  const headers = { "x-api-key": body.key };
  expect((await api.call("GET", "/events", { headers })).status).toBe(200);
  // No request waits for it to be noted.
  await eventually(async () => {
    const { body: listed } = await api.call("GET", "/api-keys", { as: admin });
    const found = listed.items.find((one: { id: string }) => one.id === body.id);
    expect(Date.parse(found.lastUsedAt)).toBeGreaterThan(Date.now() - 60_000);
  });
});

test("a key can do what its scopes say, and no more", async () => {
  const writer = (await create({ scopes: ["events:write"] })).body.key;
  const reader = (await create({ scopes: ["events:read"] })).body.key;
  expect([(await send(writer)).status, (await list(writer)).status]).toEqual([202, 403]);
  expect([(await send(reader)).status, (await list(reader)).status]).toEqual([403, 200]);
  for (const key of [writer, reader]) {
    expect((await api.call("GET", "/analytics/summary", { as: key })).status).toBe(403);
    expect((await api.call("GET", "/api-keys", { as: key })).status).toBe(403);
    expect((await api.call("GET", "/auth/me", { as: key })).status).toBe(403);
  }
});

test("a publishable key only writes events", async () => {
  const { status, body } = await create({ kind: "publishable" });
  expect(status).toBe(201);
  expect(body.scopes).toEqual(["events:write"]);
  expect(body.key).toMatch(/^ffp_/);
  expect([(await send(body.key)).status, (await list(body.key)).status]).toEqual([202, 403]);
  for (const scopes of [["events:read"], ["events:write", "admin"]])
    expect((await create({ kind: "publishable", scopes })).status).toBe(400);
});

test.each([
  ["no name", { name: "  " }],
  ["an unknown scope", { scopes: ["everything"] }],
  ["no scope", { scopes: [] }],
  ["an unknown kind", { kind: "public" }],
  ["an expiry in the past", { expiresAt: "2020-01-01T00:00:00Z" }],
  ["an expiry without time", { expiresAt: "2030-01-01" }],
  ["an unknown key", { prefix: "mine" }],
])("refuses %s", async (_, json) => {
  const { status, body } = await create(json);
  expect(status).toBe(400);
  expect(body.errors[0].path).not.toBe("");
});

test("an expired key is refused", async () => {
  const { body } = await create({ expiresAt: new Date(Date.now() + 700).toISOString() });
  expect((await send(body.key)).status).toBe(202);
  await eventually(async () => (await send(body.key)).status === 401, { timeoutMs: 5_000 });
});

test("a revoked key is refused within five seconds, and listed no more", async () => {
  const { body } = await create({});
  expect((await send(body.key)).status).toBe(202);
  expect((await api.call("DELETE", `/api-keys/${body.id}`, { as: admin })).status).toBe(204);
  await eventually(async () => (await send(body.key)).status === 401, { timeoutMs: 5_000 });
  const listed = await api.call("GET", "/api-keys", { as: admin });
  expect(listed.body.items.map((one: { id: string }) => one.id)).not.toContain(body.id);
  expect((await api.call("DELETE", `/api-keys/${body.id}`, { as: admin })).status).toBe(404);
});

test("another tenant's keys do not exist", async () => {
  const other = await createTenant(api);
  const { body } = await create({});
  expect((await api.call("DELETE", `/api-keys/${body.id}`, { as: other.key })).status).toBe(404);
  expect((await send(body.key)).status).toBe(202);
  const listed = await api.call("GET", "/api-keys", { as: other.key });
  expect(listed.body.items.length).toBe(1);
  const headers = { "x-tenant-id": other.tenantId };
  expect((await api.call("GET", "/events", { as: body.key, headers })).status).toBe(403);
});

test.each(["ffs_", "ffs_unknown", "ffp_\u00ff", "ffs_".padEnd(5_000, "x")])(
  "the key %p is refused",
  async (key) => {
    expect((await api.call("GET", "/events", { headers: { "x-api-key": key } })).status).toBe(401);
  },
);

test("the list has pages, newest first, and a cursor of its own", async () => {
  const shop = await createTenant(api);
  const as = shop.key;
  const ids: string[] = [];
  for (let n = 0; n < 4; n += 1)
    ids.unshift((await api.call("POST", "/api-keys", { as, json: { name: `key ${n}` } })).body.id);
  const seen: string[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const path: string = `/api-keys?limit=2${cursor && `&cursor=${cursor}`}`;
    const { body } = await api.call("GET", path, { as });
    expect(body.items.length).toBeLessThanOrEqual(2);
    seen.push(...body.items.map(({ id }: { id: string }) => id));
    cursor = body.nextCursor;
  }
  // The tenant's own key is the oldest.
  expect(seen.length).toBe(5);
  expect(seen.slice(0, 4)).toEqual(ids);
  const { body } = await api.call("GET", "/api-keys?limit=2", { as });
  for (const query of [`/members?cursor=${body.nextCursor}`, "/api-keys?cursor=x", "/api-keys?limit=101"])
    expect((await api.call("GET", query, { as })).status).toBe(400);
});

test("a token is no API key, whether it was checked before or not", async () => {
  const read = (headers: Record<string, string>) => api.call("GET", "/tenants/current", { headers });
  const { token } = await createPerson(api, tenant.tenantId, "admin");
  expect((await read({ "x-api-key": token })).status).toBe(401);
  expect((await read({ authorization: `Bearer ${token}` })).status).toBe(200);
  expect((await read({ "x-api-key": token })).status).toBe(401);
  expect((await read({ authorization: `Bearer ${tenant.key}` })).status).toBe(200);
});

test("a tenant has at most 200 keys that work, also when many ask at once", async () => {
  const crowded = await createTenant(api);
  const { token } = await createPerson(api, crowded.tenantId, "admin");
  await api.sql`
    insert into api_keys (tenant_id, id, name, kind, prefix, key_hash, scopes, revoked_at)
    select ${crowded.tenantId}, gen_random_uuid(), 'many', 'secret', 'ffs_', 'many-' || n, '{}',
      case when n > 197 then now() end
    from generate_series(1, 300) as series(n)`;
  const make = () => api.call("POST", "/api-keys", { as: token, json: { name: "one more" } });
  const answers = await Promise.all(Array.from({ length: 6 }, make));
  expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 201, 409, 409, 409, 409]);
  const made = answers.find(({ status }) => status === 201)?.body;
  expect((await api.call("POST", `/api-keys/${made.id}/rotate`, { as: token, json: {} })).status).toBe(409);
  expect((await api.call("DELETE", `/api-keys/${made.id}`, { as: token })).status).toBe(204);
  expect((await make()).status).toBe(201);
});
