/** Section 1 of the contract: what is the same on every route. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, eventInput, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
});
afterAll(cleanup);

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/**
 * Every path of the document, with the methods that it documents and those that some route takes
 * there: GET /events/bulk is a GET /events/{id}, too.
 */
async function paths(): Promise<{ path: string; documented: string[]; taken: string[] }[]> {
  const { body } = await api.call("GET", "/openapi.json");
  const templates = Object.entries<object>(body.paths).map(([path, item]) => ({
    path: path.replaceAll(/\{\w+\}/g, "some-id"),
    pattern: new RegExp(`^${path.replaceAll(/\{\w+\}/g, "[^/]+")}$`),
    methods: METHODS.filter((method) => method.toLowerCase() in item),
  }));
  return templates.map(({ path, methods: documented }) => ({
    path,
    documented,
    taken: METHODS.filter((method) =>
      templates.some(({ pattern, methods }) => pattern.test(path) && methods.includes(method)),
    ),
  }));
}

describe("405", () => {
  test("on every path, for every method that it does not take, with Allow", async () => {
    const all = await paths();
    expect(all.length).toBeGreaterThan(15);
    for (const { path, documented, taken } of all) {
      for (const prefix of ["", "/api"]) {
        for (const method of METHODS) {
          const { status, headers } = await api.call(method, prefix + path, { as: tenant.key });
          if (taken.includes(method)) {
            expect(`${method} ${path}: ${status}`).not.toBe(`${method} ${path}: 405`);
            continue;
          }
          expect(`${method} ${prefix}${path}: ${status}`).toBe(`${method} ${prefix}${path}: 405`);
          const allow = (headers.get("allow") ?? "").split(", ");
          expect(allow.toSorted()).toEqual(documented.toSorted());
        }
      }
    }
  });

  test("a path that is none is a 404 for every method", async () => {
    for (const path of [
      "/nowhere",
      "/api/nowhere",
      "/events/1/2/3",
      "/api/api/events",
      "/apievents",
      "/EVENTS",
    ])
      for (const method of METHODS)
        expect((await api.call(method, path, { as: tenant.key })).status).toBe(404);
  });
});

test("every route answers identically under /api", async () => {
  const reads = (await paths()).filter(({ path, taken }) => taken.includes("GET") && path !== "/metrics");
  for (const { path } of reads) {
    const [plain, prefixed] = await Promise.all(
      ["", "/api"].map((prefix) => api.call("GET", prefix + path, { as: tenant.key })),
    );
    expect(prefixed?.status).toBe(plain?.status ?? 0);
    expect(withoutMoments(prefixed?.body)).toEqual(withoutMoments(plain?.body));
  }
  const twice = { as: tenant.key, json: eventInput({ messageId: "both-doors" }) };
  const [first, second] = [
    await api.call("POST", "/events", twice),
    await api.call("POST", "/api/events?x=/y", twice),
  ];
  expect(second.body).toEqual({ ...first.body, duplicate: true });
});

/** What may differ between two answers to the same question. */
function withoutMoments(body: unknown): unknown {
  const moments =
    /^(requestId|asOf|lagMs|cache|uptimeSeconds|responseTimeMs|rssBytes|heapUsedBytes|lastUsedAt|load|cacheHitRate|hits|misses|hitRate)$/;
  return JSON.parse(JSON.stringify(body, (key, value) => (moments.test(key) ? undefined : value)));
}

describe("X-Request-Id", () => {
  test("is taken, echoed and part of every problem", async () => {
    for (const path of ["/events", "/health/live", "/nowhere", "/events/absent"]) {
      const headers = { "x-request-id": "trace-1.2:3_4" };
      const answer = await api.call("GET", path, { headers });
      expect(answer.headers.get("x-request-id")).toBe("trace-1.2:3_4");
      if (answer.status >= 400) expect(answer.body.requestId).toBe("trace-1.2:3_4");
    }
  });

  test("is made where there is none, or a dangerous one", async () => {
    const seen = new Set<string | null>();
    for (const given of [undefined, "", "a b", "x".repeat(129), "<script>", "a,b"]) {
      const headers: Record<string, string> = given === undefined ? {} : { "x-request-id": given };
      const { headers: answered } = await api.call("GET", "/health/live", { headers });
      expect(answered.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
      seen.add(answered.get("x-request-id"));
    }
    expect(seen.size).toBe(6);
  });
});

test("no answer says what it runs on, and none may be framed or sniffed", async () => {
  for (const path of ["/health/live", "/events", "/docs"]) {
    const { headers } = await api.call("GET", path);
    expect(headers.get("x-powered-by")).toBeNull();
    expect(headers.get("x-content-type-options")).toBe("nosniff");
  }
});

test("HEAD answers what GET does, without a body", async () => {
  const { status, body, headers } = await api.call("HEAD", "/health/live");
  expect([status, body]).toEqual([200, ""]);
  expect(headers.get("x-request-id")).toBeTruthy();
});

test("health and readiness say how things are", async () => {
  const health = await api.call("GET", "/health");
  expect(health.status).toBe(200);
  expect(health.body).toMatchObject({
    status: "ok",
    services: { postgres: { status: "up" }, redis: { status: "up" } },
  });
  for (const path of ["/health/ready", "/ready"])
    expect((await api.call("GET", path)).body).toEqual({ ready: true, reasons: [] });
  const metrics = await api.call("GET", "/metrics");
  expect(metrics.headers.get("content-type")).toStartWith("text/plain");
  expect(metrics.body).toMatch(/^footfall_events_ingested_total\{outcome="stored"\} \d+$/m);
});

test("readiness names a worker that is behind and a database that is not migrated", async () => {
  const { sql } = api;
  await sql`update event_batches set received_at = now() - interval '5 minutes', rolled_up_at = null`;
  const reasons = async () => (await api.call("GET", "/ready")).body.reasons;
  // What a probe found is kept for a second.
  const behind = [expect.stringMatching(/^the worker is \d+ s behind$/)];
  await eventually(async () => expect(await reasons()).toEqual(behind));
  expect((await api.call("GET", "/ready")).status).toBe(503);
  await sql`alter schema drizzle rename to away`;
  const unmigrated = [expect.stringContaining("footfall migrate")];
  await eventually(async () => expect(await reasons()).toEqual(unmigrated));
  await sql`alter schema away rename to drizzle`;
  await sql`update event_batches set received_at = now()`;
});
