/** What a browser's beacon sends, and whose event it is when it names nobody. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
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
let page: string;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  const ctx = operatorContext(tenant.tenantId);
  page = (await api.deps.apiKeys.createApiKey(ctx, { name: "page", kind: "publishable" })).key;
});
afterAll(cleanup);

/**
 * As navigator.sendBeacon(url, text) sends it: no header of ours, so the browser makes no
 * preflight.
 */
const beacon = (path: string, body: string, type = "text/plain;charset=UTF-8") =>
  api.call("POST", path, { body, headers: { "content-type": type, origin: "https://shop.example" } });

describe("a beacon", () => {
  test("is JSON as text/plain, with a publishable key in its address", async () => {
    const one = await beacon(`/events?key=${page}`, JSON.stringify(eventInput()));
    expect([one.status, one.headers.get("access-control-allow-origin")]).toEqual([202, "*"]);
    const many = await beacon(`/api/events/bulk?key=${page}`, JSON.stringify({ events: [eventInput()] }));
    expect(many.body).toMatchObject({ received: 1, inserted: 1 });
    const strict = { events: [eventInput(), { type: "" }] };
    expect((await beacon(`/events/bulk?strict=true&key=${page}`, JSON.stringify(strict))).status).toBe(400);
  });

  test("is refused with a secret key or a token there, with a wrong key, and elsewhere", async () => {
    const { token } = await createPerson(api, tenant.tenantId, "admin");
    const event = JSON.stringify(eventInput());
    for (const key of [tenant.key, token, `${page}x`, "ffp_", ""])
      expect((await beacon(`/events?key=${key}`, event)).status).toBe(401);
    expect((await beacon(`/events?key=${tenant.key}`, event)).body.detail).toContain(
      "publishable key (ffp_…)",
    );
    expect((await api.call("GET", `/events?key=${page}`)).status).toBe(401);
    expect((await beacon(`/orders?key=${page}`, "{}", "application/json")).status).toBe(401);
  });

  test("that is no JSON is a 400, and other types stay a 415", async () => {
    expect((await beacon(`/events?key=${page}`, "type=view")).status).toBe(400);
    for (const type of ["application/x-www-form-urlencoded", "multipart/form-data", "text/html"])
      expect((await beacon(`/events?key=${page}`, "{}", type)).status).toBe(415);
  });
});

test("a customer's token is the visitor of an event without ids; those of staff are not", async () => {
  const send = (as: string, json: object) => api.call("POST", "/events", { as, json });
  const customer = await createPerson(api, tenant.tenantId, "customer");
  const own = await send(customer.token, { type: "view" });
  expect(own.status).toBe(202);
  for (const role of ["admin", "seller"] as const) {
    const { token, userId } = await createPerson(api, tenant.tenantId, role);
    const { status, body } = await send(token, { type: "view" });
    expect([status, body.errors[0]]).toMatchObject([400, { path: "userId", code: "required" }]);
    expect((await send(token, eventInput())).status).toBe(202);
    expect((await send(token, { type: "view", userId })).status).toBe(202);
  }
  const rows = await api.sql`select user_id, anonymous_id from events
    where tenant_id = ${tenant.tenantId} and anonymous_id is not null`;
  expect([...rows]).toEqual(Array.from({ length: 2 }, () => ({ user_id: null, anonymous_id: "visitor-1" })));
});
