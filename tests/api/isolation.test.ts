/**
 * G8: a tenant sees only itself. Every read of the document is called with the ids of another
 * tenant's data.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let victim: TestTenant;
let stranger: TestTenant;
let newcomer: TestTenant;
const victimIds: string[] = [];
const ABSENT = "00000000-0000-7000-8000-00000000dead";
const QUERIES: Record<string, string> = { "/analytics/breakdown": "?property=country" };

beforeAll(async () => {
  api = await createTestApi();
  [victim, stranger, newcomer] = [await createTenant(api), await createTenant(api), await createTenant(api)];
  const event = eventInput({
    type: "purchase",
    productId: "victim-product",
    userId: "victim-user",
    sessionId: "victim-session",
    messageId: "victim-message",
    properties: { price: 12_345, country: "victim-country" },
  });
  const { body } = await api.call("POST", "/events", { as: victim.key, json: event });
  await rollUpAll(api);
  const product = { id: "victim-product", name: "victim-tea", category: "victim-category", price: 12_345 };
  await api.call("POST", "/products", { as: victim.key, json: product });
  await api.call("POST", "/events", { as: victim.key, json: { ...event, messageId: "victim-dead" } });
  const [dead] =
    await api.sql`update event_batches set dead_lettered_at = now(), attempts = 5, last_error = 'victim-error'
    where tenant_id = ${victim.tenantId} and rolled_up_at is null returning batch_id as id`;
  const [key] = await api.sql`select id from api_keys where tenant_id = ${victim.tenantId}`;
  victimIds.push(
    body.id,
    dead?.id,
    key?.id,
    victim.tenantId,
    "victim-product",
    "victim-user",
    "victim-session",
  );
});
afterAll(cleanup);

async function operations(): Promise<{ method: string; path: string }[]> {
  const { body } = await api.call("GET", "/openapi.json");
  return Object.entries<object>(body.paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => ({ method: method.toUpperCase(), path: path + (QUERIES[path] ?? "") })),
  );
}

/** The answer without times, and with the requested id made anonymous. */
async function answerTo(as: string, method: string, path: string, id: string) {
  const request = method === "GET" ? { as } : { as, json: {} };
  const { status, body } = await api.call(method, path.replaceAll(/\{\w+\}/g, id), request);
  const moments = /^(requestId|asOf|lagMs|cache|uptimeSeconds|responseTimeMs|rssBytes|heapUsedBytes)$/;
  const text = JSON.stringify(body, (key, value) => (moments.test(key) ? undefined : value));
  return { status, body: text.replaceAll(JSON.stringify(id), '"<id>"') };
}

test("operations that take an id answer for a foreign one as for none", async () => {
  const withId = (await operations()).filter(({ path }) => path.includes("{"));
  expect(withId.length).toBeGreaterThanOrEqual(5);
  for (const { method, path } of withId)
    for (const id of victimIds) {
      const answer = await answerTo(stranger.key, method, path, id);
      expect(`${method} ${path} ${JSON.stringify(answer)}`).toBe(
        `${method} ${path} ${JSON.stringify(await answerTo(stranger.key, method, path, ABSENT))}`,
      );
    }
  const [untouched] = await api.sql`select
    (select count(*)::int from api_keys where tenant_id = ${victim.tenantId} and revoked_at is null) as keys,
    (select count(*)::int from event_batches where tenant_id = ${victim.tenantId} and dead_lettered_at is not null) as dead,
    (select version from products where tenant_id = ${victim.tenantId} and deleted_at is null) as product`;
  expect(untouched).toEqual({ keys: 1, dead: 1, product: 1 });
});

test("operations without an id say nothing of another tenant", async () => {
  const reads = (await operations()).filter(({ method, path }) => method === "GET" && !path.includes("{"));
  for (const { method, path } of reads.filter((one) => !/health|ready|metrics|cache/.test(one.path))) {
    const answer = await answerTo(stranger.key, method, path, ABSENT);
    expect(answer.body).not.toContain("victim");
    expect(answer.body).not.toContain("12345");
    if (!/^\/(api-keys|audit|tenants\/current)$/.test(path))
      expect(answer).toEqual(await answerTo(newcomer.key, method, path, ABSENT));
  }
});

test("the victim itself sees it all", async () => {
  for (const [path, seen] of [
    ["/events", "victim-session"],
    [`/events/${victimIds[0]}`, "victim-message"],
    ["/analytics/products/top", "victim-product"],
    ["/analytics/breakdown?property=country", "victim-country"],
    ["/analytics/summary", "12345"],
    ["/products", "victim-tea"],
    ["/products/victim-product", "victim-tea"],
    ["/products/categories", "victim-category"],
    ["/analytics/users/victim-user/summary", "12345"],
    ["/queue/dead-letters", "victim-error"],
  ])
    expect(JSON.stringify((await api.call("GET", path ?? "", { as: victim.key })).body)).toContain(
      seen ?? "",
    );
});

test("no credential reaches another tenant by naming it", async () => {
  const { token } = await createPerson(api, stranger.tenantId, "admin");
  const headers = { "x-tenant-id": victim.tenantId };
  for (const as of [stranger.key, token])
    for (const path of ["/events", "/analytics/summary", "/api-keys", "/queue/dead-letters"])
      expect((await api.call("GET", path, { as, headers })).status).toBe(403);
});

test("a session of one tenant is none in another, cached or not", async () => {
  const summary = async (as: string) =>
    (await api.call("GET", "/analytics/summary?days=3", { as })).body.totals.revenue;
  for (let round = 0; round < 2; round += 1) {
    expect(await summary(victim.key)).toBe(12_345);
    expect(await summary(stranger.key)).toBe(0);
  }
});
