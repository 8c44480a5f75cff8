/**
 * False lengths, and requests hidden in one another, at operations with JSON bodies. For events see
 * api/sockets.test.ts.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { createPerson, createTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { SLOW_MS, startTarget, type Target } from "./target.ts";

let target: Target;
let token: string;
let port: number;

beforeAll(async () => {
  target = await startTarget();
  ({ token } = await createPerson(target, (await createTenant(target)).tenantId, "admin"));
  port = Number(new URL(target.server.url).port);
});
afterAll(cleanup);

/**
 * Writes bytes and returns the statuses of all that comes back: none for a body that is still
 * awaited.
 */
function talk(text: string): Promise<number[]> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1");
    let timer = setTimeout(() => socket.destroy(), 300);
    socket.on("data", (data) => {
      answer += data.toString("latin1");
      // A second answer would follow at once.
      clearTimeout(timer);
      timer = setTimeout(() => socket.destroy(), 40);
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      clearTimeout(timer);
      resolve([...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => Number(match[1])));
    });
    socket.write(text);
  });
}

const BODIES: [string, string, object][] = [
  ["POST", "/members", { email: "wire@example.com", role: "admin" }],
  ["POST", "/api-keys", { name: "wire" }],
  ["PATCH", "/tenants/current", { name: "wire" }],
  ["POST", "/auth/register", { email: "wire@example.com", password: "a long password", tenantName: "wire" }],
];

function request(
  method: string,
  path: string,
  headers: Record<string, string | number>,
  body: string,
): string {
  const all = { host: "x", authorization: `Bearer ${token}`, "content-type": "application/json", ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n${body}`;
}

test("an honest request is answered, so the lies are refused for being lies", async () => {
  const body = JSON.stringify({ lowStockThreshold: 1 });
  const sent = request("PATCH", "/tenants/current", { "content-length": body.length }, body);
  expect(await talk(sent)).toEqual([200]);
});

test.each(BODIES)("%s %s takes no body whose length is a lie", async (method, path, json) => {
  const body = JSON.stringify(json);
  const smuggled = request("DELETE", "/members/x", {}, "");
  const cases: [Record<string, string | number>, string][] = [
    [{ "content-length": body.length - 3 }, body],
    [{ "content-length": body.length + 100 }, body],
    [{ "content-length": -1 }, body],
    [{ "content-length": "99999999999999999999" }, body],
    [{ "content-length": "1e2" }, body],
    [{ "content-length": 1_000_000_000 }, body],
    [{ "transfer-encoding": "chunked" }, `fffffffff\r\n${body}`],
    [{ "transfer-encoding": "chunked" }, "zz\r\n\r\n"],
    [{ "content-length": 4, "transfer-encoding": "chunked" }, `0\r\n\r\n${smuggled}`],
  ];
  let answered = 0;
  for (const [headers, sent] of cases) {
    const startedAt = performance.now();
    const statuses = await talk(request(method, path, headers, sent));
    answered += statuses.length;
    expect(performance.now() - startedAt).toBeLessThan(SLOW_MS);
    expect(`${JSON.stringify(headers)} ${statuses.filter((status) => status < 400 || status >= 500)}`).toBe(
      `${JSON.stringify(headers)} `,
    );
  }
  expect(answered).toBeGreaterThanOrEqual(5);
  const [row] = await target.sql`
    select (select count(*)::int from invitations) as invitations, (select count(*)::int from tenants where name = 'wire') as tenants,
      (select count(*)::int from api_keys where name = 'wire') as keys`;
  expect(row).toEqual({ invitations: 0, tenants: 0, keys: 0 });
});
