/**
 * A used messageId stores nothing more, so strangers must not be able to use up those of the shop's
 * server.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { operatorContext } from "../../src/core/principal.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
/** Credentials, each with messageIds of its own, except those of the shop, which share theirs. */
let page: string;
let customers: string[];
let shop: string[];

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  const ctx = operatorContext(tenant.tenantId);
  page = (await api.deps.apiKeys.createApiKey(ctx, { name: "page", kind: "publishable" })).key;
  const people = await Promise.all(
    (["customer", "customer", "admin", "seller"] as const).map((role) =>
      createPerson(api, tenant.tenantId, role),
    ),
  );
  const [first = "", second = "", ...staff] = people.map(({ token }) => token);
  customers = [first, second];
  shop = [tenant.key, ...staff];
});
afterAll(cleanup);

/** Without a user id: a customer's events are its own. */
const send = async (as: string, messageId: string) => {
  const { status, body } = await api.call("POST", "/events", { as, json: eventInput({ messageId }) });
  expect(status).toBe(202);
  return body as { id: string; duplicate: boolean };
};

test("whoever may be a stranger uses up its own messageIds only, and retries are known as before", async () => {
  const firsts: string[] = [];
  for (const as of [page, ...customers, tenant.key]) {
    const first = await send(as, "order-17");
    expect(first.duplicate).toBe(false);
    expect(await send(as, "order-17")).toMatchObject({ id: first.id, duplicate: true });
    firsts.push(first.id);
  }
  expect(new Set(firsts).size).toBe(4);
  for (const as of shop) expect(await send(as, "order-17")).toMatchObject({ id: firsts[3], duplicate: true });
  const events = await api.sql`select distinct message_id from events where tenant_id = ${tenant.tenantId}`;
  expect([...events]).toEqual([{ message_id: "order-17" }]);
});

test("in bulk, too, also where a stranger came second", async () => {
  const events = [
    eventInput({ messageId: "a" }),
    eventInput({ messageId: "b" }),
    eventInput({ messageId: "a" }),
  ];
  for (const as of [tenant.key, page, ...customers]) {
    const bulk = () => api.call("POST", "/events/bulk", { as, json: { events } });
    expect((await bulk()).body).toMatchObject({ inserted: 2, duplicates: 1 });
    expect((await bulk()).body).toMatchObject({ inserted: 0, duplicates: 3 });
  }
});

test("no text makes a messageId of one space a messageId of another", async () => {
  const [customer = ""] = customers;
  const userId = JSON.parse(Buffer.from(customer.split(".")[1] ?? "", "base64url").toString()).sub;
  const crafted = ["page", userId, ""].map((space) => `\u0001${space}\u0001x`);
  for (const messageId of ["x", ...crafted])
    for (const as of [page, customer, tenant.key]) expect((await send(as, messageId)).duplicate).toBe(false);
});
