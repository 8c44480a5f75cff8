/**
 * Log lines are the program's own, whatever a client sends, and never hold a secret, whatever goes
 * wrong.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { sha256 } from "../../src/core/ids.ts";
import { callOver, createTestApi, type TestApi } from "../factories.ts";
import { cleanup, startServer } from "../harness.ts";

let api: TestApi;
let server: Awaited<ReturnType<typeof startServer>>;
let call: TestApi["call"];

const PASSWORD = "Pa55word-that-no-log-may-hold";

beforeAll(async () => {
  api = await createTestApi();
  server = await startServer({ ...api.env, LOG_LEVEL: "trace" });
  call = callOver(server.url);
});
afterAll(cleanup);

const lines = () => server.stdout().split("\n").filter(Boolean);

/** Writes raw bytes to the server and waits for its first answer. */
function talk(text: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    const timer = setTimeout(() => socket.destroy(), 500);
    socket.on("data", () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      clearTimeout(timer);
      resolve();
    });
    socket.write(text);
  });
}

test("no client writes a line of the log", async () => {
  const forged = '{"level":"fatal","msg":"forged"}';
  for (const line of [`%0a${encodeURIComponent(forged)}%0a`, "%0d%0a%1b[31mred", "%E2%80%A8x", "\\n"])
    await call("GET", `/events/${line}`);
  for (const id of [`a\r\n${forged}`, `a\n${forged}`, forged, "\x1b[2J", "%0a"])
    await talk(
      `GET /health/live HTTP/1.1\r\nhost: x\r\nx-request-id: ${id}\r\nuser-agent: ${forged}\r\n\r\n`,
    );
  await talk(`GET /x\n${forged} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await Bun.sleep(100);
  expect(lines().length).toBeGreaterThan(5);
  for (const line of lines()) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escapes of a terminal
    expect(line).not.toMatch(/[\x00-\x1f\x7f]/);
    const { level, msg } = JSON.parse(line);
    expect(["info", "debug", "trace", "warn"]).toContain(level);
    expect(msg).not.toBe("forged");
  }
});

test("secrets are in no log, not when all goes well and not when all goes wrong", async () => {
  const secrets = [PASSWORD, api.config.jwtSecret];
  const keep = <T extends string>(secret: T): T => {
    secrets.push(secret, sha256(secret));
    return secret;
  };
  const json = { email: "logged@example.com", password: PASSWORD, tenantName: "Logged" };
  const session = (await call("POST", "/auth/register", { json })).body;
  const as = keep(session.token);
  keep(session.refreshToken);
  const key = (await call("POST", "/api-keys", { as, json: { name: "k", scopes: ["admin"] } })).body;
  keep(key.key);
  const invited = { email: "guest@example.com", role: "customer" };
  const invitation = (await call("POST", "/members", { as: key.key, json: invited })).body;
  keep(invitation.token);
  keep((await call("POST", `/api-keys/${key.id}/rotate`, { as, json: {} })).body.key);
  const [user] = await api.sql`select password_hash from users where email = ${json.email}`;
  secrets.push(user?.password_hash);

  const sendAll = async () => {
    const login = { email: json.email, password: PASSWORD };
    const next = await call("POST", "/auth/login", { json: login });
    if (next.status === 200) keep(next.body.refreshToken);
    await call("POST", "/auth/login", { json: { ...login, password: `${PASSWORD}!` } });
    await call("POST", "/auth/login", { json: { ...login, extra: PASSWORD } });
    await call("POST", "/auth/login", {
      body: `{"password":"${PASSWORD}`,
      headers: { "content-type": "application/json" },
    });
    await call("POST", "/auth/register", { json: { ...login, email: "second@example.com" } });
    await call("POST", "/auth/refresh", { json: { refreshToken: session.refreshToken } });
    await call("POST", "/auth/logout", { json: { refreshToken: session.refreshToken } });
    await call("POST", "/members/accept", { as, json: { token: invitation.token } });
    await call("POST", "/api-keys", { as, json: { name: "again" } }).then(
      ({ body }) => body.key && keep(body.key),
    );
    await call("GET", `/events?token=${as}&apiKey=${key.key}&password=${PASSWORD}`, { as: key.key });
    await call("GET", "/auth/me", { headers: { "x-api-key": key.key } });
    await call("GET", "/api-keys", { headers: { authorization: `Bearer ${key.key}x` } });
  };
  await sendAll();
  for (const table of ["refresh_tokens", "users", "api_keys", "invitations", "memberships"]) {
    await api.sql`alter table ${api.sql(table)} rename to away`;
    await sendAll();
    await api.sql`alter table away rename to ${api.sql(table)}`;
  }
  // Postgres's message shows a refused row with all of its values.
  await api.sql`alter table users add column missing int not null default 0`;
  await api.sql`alter table users alter column missing drop default`;
  await sendAll();
  await Bun.sleep(100);
  const log = server.output();
  expect(log).toContain('"level":"error"');
  const leaked = secrets.filter((secret) => log.includes(secret));
  expect(leaked.map((secret) => lines().find((line) => line.includes(secret)))).toEqual([]);
});
