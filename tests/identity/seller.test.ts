/** X-Seller-Id: whom a request acts for, and ETags of what it reads. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Role } from "../../src/core/principal.ts";
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
    const { token } = await createPerson(api, tenant.tenantId, "seller", "s-1");
    expect(await readAs(token, "s-1")).toBe(200);
    expect(await readAs(token, "s-2")).toBe(403);
    expect((await api.call("GET", "/tenants/current", { as: token })).status).toBe(200);
  });

  test("a seller of nobody, as old rows may have one, does nothing for anybody", async () => {
    const { token } = await createPerson(api, tenant.tenantId, "seller", null);
    for (const path of ["/tenants/current", "/auth/me"])
      expect((await api.call("GET", path, { as: token })).status).toBe(403);
    const json = { type: "view", anonymousId: "a" };
    expect((await api.call("POST", "/events", { as: token, json })).status).toBe(403);
    expect(await readAs(token, "s-1")).toBe(403);
  });

  test.each(["customer", "analyst"] as const)(
    "a seller id in an old row of a %s means nothing",
    async (role) => {
      const { token } = await createPerson(api, tenant.tenantId, role, "s-1");
      expect(await readAs(token, "s-1")).toBe(403);
      expect((await api.call("GET", "/tenants/current", { as: token })).status).toBe(200);
    },
  );

  test.each<[Role, string | undefined, number]>([
    ["seller", "s-1", 201],
    ["seller", undefined, 400],
    ["admin", "s-1", 400],
    ["customer", "s-1", 400],
    ["analyst", undefined, 201],
  ])("an invitation as %s with the seller %s is a %d", async (role, sellerId, expected) => {
    const json = { email: "invited@example.com", role, sellerId };
    const { status, body } = await api.call("POST", "/members", { as: tenant.key, json });
    expect(status).toBe(expected);
    if (status === 400) expect(body.errors[0].path).toBe("sellerId");
  });

  test.each<[Role, string | null, object, number]>([
    ["seller", "s-1", { sellerId: "s-2" }, 204],
    ["seller", "s-1", { sellerId: null }, 400],
    ["seller", "s-1", { role: "analyst" }, 400],
    ["seller", "s-1", { role: "analyst", sellerId: null }, 204],
    ["analyst", null, { role: "seller" }, 400],
    ["analyst", null, { sellerId: "s-1" }, 400],
    ["analyst", null, { role: "seller", sellerId: "s-1" }, 204],
    ["seller", null, { sellerId: "s-1" }, 204],
  ])("a %s of %s changed by %j is a %d", async (role, sellerId, json, expected) => {
    const { userId } = await createPerson(api, tenant.tenantId, role, sellerId);
    const { status } = await api.call("PATCH", `/members/${userId}`, { as: tenant.key, json });
    expect(status).toBe(expected);
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
    // The first analytics answer is a miss and says so. The cached answer stays the same.
    await read();
    const etag = (await read()).headers.get("etag") ?? "";
    expect(etag).toMatch(/^(W\/)?"/);
    expect((await read({ "if-none-match": etag })).status).toBe(304);
    expect((await read({ "if-none-match": '"another"' })).status).toBe(200);
  },
);
