import { afterAll, beforeAll, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let as: string;
let tenantId: string;

beforeAll(async () => {
  api = await createTestApi();
  ({ key: as, tenantId } = await createTenant(api));
});
afterAll(cleanup);

const create = async (json: object = {}) =>
  (await api.call("POST", "/api-keys", { as, json: { name: "shop", ...json } })).body;
const rotate = (id: string, json: object = {}) => api.call("POST", `/api-keys/${id}/rotate`, { as, json });
const works = async (key: string) => (await api.call("GET", "/events", { as: key })).status === 200;
const listed = async (id: string) =>
  (await api.call("GET", "/api-keys", { as })).body.items.find((one: { id: string }) => one.id === id);

test("both keys work while they overlap, then only the new one", async () => {
  const old = await create({ scopes: ["events:read"] });
  const { status, body } = await rotate(old.id, { overlapSeconds: 1 });
  expect(status).toBe(201);
  expect(body).toMatchObject({ name: "shop", kind: "secret", scopes: ["events:read"], expiresAt: null });
  expect([body.id === old.id, body.key === old.key]).toEqual([false, false]);
  expect([await works(old.key), await works(body.key)]).toEqual([true, true]);
  await eventually(async () => !(await works(old.key)), { timeoutMs: 5_000 });
  expect(await works(body.key)).toBe(true);
  expect(await listed(old.id)).toBeUndefined();
  expect((await rotate(old.id)).status).toBe(404);
});

test("no overlap ends the old key within five seconds, the default is a day", async () => {
  const old = await create();
  expect(await works(old.key)).toBe(true);
  await rotate(old.id, { overlapSeconds: 0 });
  await eventually(async () => !(await works(old.key)), { timeoutMs: 5_000 });
  const other = await create();
  await rotate(other.id);
  const endsInSeconds = (Date.parse((await listed(other.id)).expiresAt) - Date.now()) / 1000;
  expect(Math.abs(endsInSeconds - 86_400)).toBeLessThan(60);
});

test("neither key outlives the expiry that was set", async () => {
  const expiresAt = new Date(Date.now() + 60_000).toISOString();
  const old = await create({ expiresAt });
  const { body } = await rotate(old.id);
  expect([body.expiresAt, (await listed(old.id)).expiresAt]).toEqual([expiresAt, expiresAt]);
});

test("rotated ten times at once, one answer is a key, and the others say that there is one", async () => {
  const old = await create();
  const answers = await Promise.all(Array.from({ length: 10 }, () => rotate(old.id)));
  const made = answers.filter(({ status }) => status === 201);
  expect(made.length).toBe(1);
  expect(answers.filter(({ status }) => status === 409).length).toBe(9);
  expect(await works(made[0]?.body.key)).toBe(true);
});

test("a key that was rotated is not rotated again; its successor is, and keeps the expiry that was set", async () => {
  const expiresAt = new Date(Date.now() + 7 * 86_400_000).toISOString();
  const old = await create({ expiresAt });
  const { body: next } = await rotate(old.id, { overlapSeconds: 60 });
  const again = await rotate(old.id);
  expect([again.status, again.body.code]).toEqual([409, "conflict"]);
  expect(again.body.detail).toContain(next.id);
  const third = await rotate(next.id);
  expect([next.expiresAt, third.body.expiresAt]).toEqual([expiresAt, expiresAt]);
});

test("a key that is being revoked at that moment gets no successor", async () => {
  const old = await create();
  const keys = async () => (await api.sql`select id from api_keys where tenant_id = ${tenantId}`).length;
  const before = await keys();
  const rotated = await api.sql.begin(async (tx) => {
    await tx`update api_keys set revoked_at = now() where id = ${old.id}`;
    const answer = rotate(old.id);
    await eventually(async () => {
      const waiting = await api.sql`select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      expect(waiting.length).toBe(1);
    });
    return { answer };
  });
  expect((await rotated.answer).status).toBe(404);
  expect(await keys()).toBe(before);
});
