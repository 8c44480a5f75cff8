/** X-Seller-Id: whom a request acts for, and ETags of what it reads. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const readAs = async (as: string, sellerId: string) =>
  (await api.call("GET", "/tenants/current", { as, headers: { "x-seller-id": sellerId } })).status;

describe("X-Seller-Id", () => {
  test("an admin and a key that may write products name any seller", async () => {
    const admin = await createPerson(api, tenant.tenantId, "admin");
    expect(await readAs(admin.token, "anybody")).toBe(200);
    expect(await readAs(tenant.key, "anybody")).toBe(200);
  });

  test("a seller names itself, and nobody else", async () => {
    const { userId, token } = await createPerson(api, tenant.tenantId, "seller");
    await api.sql`update memberships set seller_id = 's-1' where user_id = ${userId}`;
    expect(await readAs(token, "s-1")).toBe(200);
    expect(await readAs(token, "s-2")).toBe(403);
  });

  test("others name no seller, and no name is too long", async () => {
    for (const role of ["analyst", "customer"] as const) {
      const { token } = await createPerson(api, tenant.tenantId, role);
      expect(await readAs(token, "s-1")).toBe(403);
    }
    const writer = await createKey(api, tenant.tenantId, ["events:write"]);
    const answer = await api.call("POST", "/events", {
      as: writer,
      json: { type: "view", anonymousId: "a" },
      headers: { "x-seller-id": "s-1" },
    });
    expect(answer.status).toBe(403);
    const admin = await createPerson(api, tenant.tenantId, "admin");
    expect(await readAs(admin.token, "s".repeat(101))).toBe(400);
  });
});

test.each(["/tenants/current", "/analytics/summary?days=1"])(
  "%s answers 304 to the ETag that it gave",
  async (path) => {
    const read = (headers = {}) => api.call("GET", path, { as: tenant.key, headers });
    // The first analytics answer is a miss and says so; what is cached stays the same.
    await read();
    const etag = (await read()).headers.get("etag") ?? "";
    expect(etag).toMatch(/^(W\/)?"/);
    expect((await read({ "if-none-match": etag })).status).toBe(304);
    expect((await read({ "if-none-match": '"another"' })).status).toBe(200);
  },
);
