/** What caches on the way may keep, and what a 304 still says. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

const ORIGIN = "https://dashboard.example.com";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi({
    CORS_ORIGINS: ORIGIN,
    RATE_LIMIT_STANDARD: "1000/1s",
    RATE_LIMIT_ANALYTICS: "1000/1s",
    RATE_LIMIT_EVENTS_READ: "1000/1s",
  });
  tenant = await createTenant(api);
});
afterAll(cleanup);

describe("a 304", () => {
  const kept = [
    "x-request-id",
    "ratelimit",
    "ratelimit-policy",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "vary",
    "etag",
  ];

  test.each(["/tenants/current", "/analytics/summary?days=1", "/events/:id"])(
    "of %s says all that the 200 does, but for the body",
    async (template) => {
      const { body } = await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
      // Waiting events change every analytics answer: it tells their age.
      await rollUpAll(api);
      const path = template.replace(":id", body.id);
      const read = (headers = {}) =>
        api.call("GET", path, { as: tenant.key, headers: { origin: ORIGIN, ...headers } });
      // The first analytics answer is a miss and says so. The cached answer stays the same.
      await read();
      const first = await read();
      const again = await read({
        "if-none-match": first.headers.get("etag") ?? "",
        "x-request-id": "asked-again",
      });
      expect([first.status, again.status, again.body]).toEqual([200, 304, ""]);
      for (const name of kept) expect(`${name}: ${again.headers.has(name)}`).toBe(`${name}: true`);
      expect(again.headers.get("x-request-id")).toBe("asked-again");
      expect(again.headers.get("access-control-allow-origin")).toBe(ORIGIN);
      expect(again.headers.get("cache-control")).toBe(first.headers.get("cache-control"));
    },
  );
});

test("answers that hold a credential are stored by nobody", async () => {
  const email = "ada@example.com";
  const password = "correct horse battery";
  const post = (path: string, json: object, as?: string) => api.call("POST", path, { as, json });
  const registered = await post("/auth/register", { email, password });
  const made = await post("/api-keys", { name: "k" }, tenant.key);
  const answers = [
    registered,
    await post("/auth/login", { email, password }),
    await post("/auth/refresh", { refreshToken: registered.body.refreshToken }),
    made,
    await post(`/api-keys/${made.body.id}/rotate`, {}, tenant.key),
    await post("/members", { email, role: "customer" }, tenant.key),
  ];
  expect(answers.map(({ status }) => status)).toEqual([201, 200, 200, 201, 201, 201]);
  for (const { headers } of answers) expect(headers.get("cache-control")).toBe("no-store");
});

test("answers to a credential are its own, and problems are stored by nobody", async () => {
  const call = (path: string, as?: string) => api.call("GET", path, { as });
  for (const path of ["/tenants/current", "/members", "/api-keys", "/events", "/audit"]) {
    const { headers } = await call(path, tenant.key);
    expect(headers.get("cache-control")).toBe("private, no-cache");
    expect(headers.get("vary")).toContain("Authorization, X-Api-Key");
  }
  const problems = [
    await call("/events/absent", tenant.key),
    await call("/events"),
    await call("/nowhere"),
    await call("/events?limit=x", tenant.key),
  ];
  expect(problems.map(({ status }) => status)).toEqual([404, 401, 404, 400]);
  for (const { headers } of problems) expect(headers.get("cache-control")).toBe("no-store");
});
