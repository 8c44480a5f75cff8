/** Who may choose properties, what is a valid choice, and what there is to choose from. */
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

const PATH = "/tenants/current/properties";
const DEFAULT = "country device browser os referrer utm_source utm_medium utm_campaign".split(" ");

let api: TestApi;
beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

const namesOf = async (shop: TestTenant) =>
  (await api.call("GET", PATH, { as: shop.key })).body.items.map(({ name }: { name: string }) => name);

describe("the choice", () => {
  test.each<[string, unknown]>([
    ["31 properties", Array.from({ length: 31 }, (_, n) => `p${n}`)],
    ["one twice", ["a", "a"]],
    ["an empty name", [""]],
    ["a name that is too long", ["a".repeat(101)]],
    ["NUL", ["a\0"]],
    ["no list", "country"],
  ])("refuses %s", async (_, properties) => {
    const shop = await createTenant(api);
    const json = { properties };
    const { status } = await api.call("PUT", PATH, { as: shop.key, json });
    expect(status).toBe(400);
    expect(await namesOf(shop)).toEqual(DEFAULT);
  });

  test("is for admins, is audited, and concerns one tenant", async () => {
    const [shop, neighbour] = [await createTenant(api), await createTenant(api)];
    const { token } = await createPerson(api, shop.tenantId, "analyst");
    const json = { properties: Array.from({ length: 30 }, (_, n) => `p${n}`) };
    expect((await api.call("PUT", PATH, { as: token, json })).status).toBe(403);
    expect((await api.call("PUT", PATH, { as: shop.key, json })).status).toBe(200);
    const read = await api.call("GET", PATH, { as: token });
    expect(read.body.items).toHaveLength(30);
    expect(await namesOf(neighbour)).toEqual(DEFAULT);
    const { items } = (await api.call("GET", "/audit", { as: shop.key })).body;
    expect(items[0]).toMatchObject({ action: "tenant.properties_chosen", after: json });
  });
});

describe("GET /analytics/properties", () => {
  test("shows what the newest events carry", async () => {
    const shop = await createTenant(api);
    const event = (properties: object, context?: object) => ({
      ...{ type: "view", anonymousId: "a", timestamp: "2026-09-10T00:00:00Z", properties, context },
    });
    const events = [
      event({ plan: "gold", size: 1 }, { plan: "context", country: "DE" }),
      event({ plan: "gold", size: "XL" }),
      event({ plan: "tin", tags: ["a"] }),
      event({ plan: null, nested: { a: 1 } }, { plan: "context" }),
      event({}),
    ];
    await api.call("POST", "/events/bulk", { as: shop.key, json: { events } });
    const { status, body } = await api.call("GET", "/analytics/properties", { as: shop.key });
    expect(status).toBe(200);
    const at = "2026-09-10T00:00:00.000Z";
    expect(body.sampled).toEqual({ events: 5, limit: 5_000, from: at, to: at });
    expect(body.truncated).toBe(false);
    expect(body.items[0]).toEqual({
      ...{ name: "plan", types: ["string"], seen: 4, share: 0.8, chosen: false },
      topValues: [
        { value: "gold", events: 2 },
        { value: "context", events: 1 },
        { value: "tin", events: 1 },
      ],
    });
    const rest = body.items.slice(1).map(({ name, types, chosen, topValues }: Record<string, unknown>) => {
      return [name, types, chosen, (topValues as unknown[]).length];
    });
    expect(rest).toEqual([
      ["size", ["number", "string"], false, 2],
      ["country", ["string"], true, 1],
      ["nested", ["object"], false, 0],
      ["tags", ["array"], false, 0],
    ]);
  });

  test("is for those who may read events; a tenant without any has none", async () => {
    const shop = await createTenant(api);
    const key = await createKey(api, shop.tenantId, ["analytics:read"]);
    expect((await api.call("GET", "/analytics/properties", { as: key })).status).toBe(403);
    const { body } = await api.call("GET", "/analytics/properties", { as: shop.key });
    const sampled = { events: 0, limit: 5_000, from: null, to: null };
    expect(body).toEqual({ sampled, items: [], truncated: false });
  });
});
