/**
 * Any page may write events. All else is for the configured origins, and for nobody where there are
 * none.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createTenant, createTestApi, eventInput, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

const DASHBOARD = "https://dashboard.example.com";
const SHOP = "https://any-shop.example";

let api: TestApi;
let closed: TestApi;
let key: string;

beforeAll(async () => {
  [api, closed] = await Promise.all([
    createTestApi({ CORS_ORIGINS: `${DASHBOARD}, http://localhost:5173` }),
    createTestApi(),
  ]);
  ({ key } = await createTenant(api));
});
afterAll(cleanup);

const preflight = (path: string, method: string, origin: string, on = api) =>
  on.call("OPTIONS", path, {
    headers: {
      origin,
      "access-control-request-method": method,
      "access-control-request-headers": "authorization,content-type",
    },
  });
const allowed = ({ headers }: { headers: Headers }) => headers.get("access-control-allow-origin");

test.each(["/events", "/events/bulk", "/api/events", "/api/events/bulk"])(
  "any origin writes to %s",
  async (path) => {
    for (const on of [api, closed]) {
      const { status, headers } = await preflight(path, "POST", SHOP, on);
      expect(status).toBe(204);
      expect(headers.get("access-control-allow-origin")).toBe("*");
      expect(headers.get("access-control-allow-methods")).toBe("POST");
      expect(headers.get("access-control-allow-headers")).toContain("authorization");
    }
    const json = path.endsWith("bulk") ? { events: [eventInput()] } : eventInput();
    const sent = await api.call("POST", path, { as: key, json, headers: { origin: SHOP } });
    expect([sent.status, allowed(sent)]).toEqual([202, "*"]);
    const refused = await api.call("POST", path, { json, headers: { origin: SHOP } });
    expect([refused.status, allowed(refused)]).toEqual([401, "*"]);
  },
);

test.each<[string, string]>([
  ["GET", "/events"],
  ["GET", "/analytics/summary"],
  ["POST", "/auth/login"],
  ["POST", "/api-keys"],
  ["PATCH", "/tenants/current"],
  ["DELETE", "/members/x"],
  ["GET", "/audit"],
])("%s %s is for the configured origins", async (method, path) => {
  for (const origin of [DASHBOARD, "http://localhost:5173"]) {
    const answer = await preflight(path, method, origin);
    expect([answer.status, allowed(answer)]).toEqual([204, origin]);
    expect(answer.headers.get("access-control-allow-methods")).toContain(method);
  }
  const strangers = [
    SHOP,
    "null",
    `${DASHBOARD}.evil.example`,
    "https://evil.example/#https://dashboard.example.com",
    DASHBOARD.toUpperCase(),
    "http://dashboard.example.com",
  ];
  for (const origin of strangers) expect(allowed(await preflight(path, method, origin))).toBeNull();
  expect(allowed(await preflight(path, method, DASHBOARD, closed))).toBeNull();
  for (const origin of strangers)
    expect(
      allowed(
        await api.call(method, path, {
          as: key,
          headers: { origin },
          ...(method === "GET" ? {} : { json: {} }),
        }),
      ),
    ).toBeNull();
});

test("no origin may send cookies, caches are told that answers differ, scripts may read the limits", async () => {
  const headers = { origin: DASHBOARD };
  const answer = await api.call("GET", "/analytics/summary", { as: key, headers });
  expect(allowed(answer)).toBe(DASHBOARD);
  expect(answer.headers.get("access-control-allow-credentials")).toBeNull();
  expect(answer.headers.get("vary")?.toLowerCase()).toContain("origin");
  expect(answer.headers.get("access-control-expose-headers")?.toLowerCase()).toContain("ratelimit");
});

test("a problem is readable for a configured origin, too", async () => {
  for (const path of ["/analytics/summary", "/nowhere", "/events/absent"])
    expect(allowed(await api.call("GET", path, { headers: { origin: DASHBOARD } }))).toBe(DASHBOARD);
});
