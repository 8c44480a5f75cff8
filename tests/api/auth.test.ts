import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SignJWT } from "jose";
import { createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let people = 0;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

const PASSWORD = "correct horse battery";

function newEmail(): string {
  people += 1;
  return `person-${people}@example.com`;
}

async function register(overrides: Record<string, unknown> = {}) {
  return api.call("POST", "/auth/register", {
    json: { email: newEmail(), password: PASSWORD, ...overrides },
  });
}

const login = (json: Record<string, unknown>) => api.call("POST", "/auth/login", { json });
const refresh = (refreshToken: string) => api.call("POST", "/auth/refresh", { json: { refreshToken } });

describe("register", () => {
  test("with a tenant name makes the tenant and its admin", async () => {
    const { status, body } = await register({ tenantName: "Käse & Söhne", name: "Ada" });
    expect(status).toBe(201);
    expect(body).toEqual({
      token: expect.any(String),
      refreshToken: expect.any(String),
      expiresIn: 900,
      user: {
        id: expect.any(String),
        email: expect.any(String),
        name: "Ada",
        role: "admin",
        tenantId: expect.any(String),
        createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      },
    });
    const [tenant] = await api.sql`select name, slug from tenants where id = ${body.user.tenantId}`;
    expect(tenant?.name).toBe("Käse & Söhne");
    expect(tenant?.slug).toMatch(/^ka-?se-so-?hne-/);
  });

  test("without one joins the default tenant as customer", async () => {
    const { body } = await register();
    const [tenant] = await api.sql`select slug from tenants where id = ${body.user.tenantId}`;
    expect(tenant?.slug).toBe("default");
    expect(body.user.role).toBe("customer");
  });

  test("refuses a taken e-mail whatever its case, and ten at once make one account", async () => {
    const email = newEmail();
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => register({ email: n % 2 ? email : email.toUpperCase() })),
    );
    expect(answers.map((one) => one.status).sort()).toEqual([201, ...Array(9).fill(409)]);
    const [found] = await api.sql`select count(*)::int as n from users where email = ${email}`;
    expect(found?.n).toBe(1);
  });

  test.each([
    ["no password", { email: "a@example.com" }],
    ["short password", { email: "a@example.com", password: "1234567" }],
    ["long password", { email: "a@example.com", password: "x".repeat(129) }],
    ["no e-mail", { email: "not an address", password: PASSWORD }],
    ["an unknown key", { email: "a@example.com", password: PASSWORD, role: "admin" }],
    ["NUL in the name", { email: "a@example.com", password: PASSWORD, name: "a\0b" }],
    ["half an emoji in the name", { email: "a@example.com", password: PASSWORD, tenantName: "\ud83d" }],
    ["a number for a name", { email: "a@example.com", password: PASSWORD, name: 7 }],
  ])("refuses %s", async (_, json) => {
    const { status, body } = await api.call("POST", "/auth/register", { json });
    expect(status).toBe(400);
    expect(body.errors.length).toBeGreaterThan(0);
  });

  test.each([
    [{ SIGNUPS: "closed" }, 403, 403],
    [{ SIGNUPS: "closed", CUSTOMER_SIGNUPS: "open" }, 403, 201],
    [{ CUSTOMER_SIGNUPS: "closed" }, 201, 403],
  ])("with %j makes tenants: %d, customers: %d", async (settings, tenants, customers) => {
    const closed = await createTestApi(settings);
    const tried = (json: object) =>
      closed.call("POST", "/auth/register", { json: { email: newEmail(), password: PASSWORD, ...json } });
    expect((await tried({ tenantName: "Mine" })).status).toBe(tenants);
    expect((await tried({})).status).toBe(customers);
    const [users] = await closed.sql`select count(*)::int as n from users`;
    expect(users?.n).toBe([tenants, customers].filter((status) => status === 201).length);
    const { tenantId, key } = await createTenant(closed);
    const invited = { email: newEmail(), role: "analyst" };
    const { body } = await closed.call("POST", "/members", { as: key, json: invited });
    const joined = await tried({ email: invited.email, invitationToken: body.token });
    expect(joined.body.user.tenantId).toBe(tenantId);
  });
});

describe("login and me", () => {
  test("answer a session that works", async () => {
    const email = newEmail();
    await register({ email, tenantName: "Shop" });
    const { status, body } = await login({ email: email.toUpperCase(), password: PASSWORD });
    expect(status).toBe(200);
    const me = await api.call("GET", "/auth/me", { as: body.token });
    expect(me.body.user).toEqual(body.user);
    expect(me.body.memberships).toEqual([
      { tenantId: body.user.tenantId, tenantName: "Shop", role: "admin", sellerId: null },
    ]);
  });

  test("a wrong password, an unknown user and a foreign tenant read the same", async () => {
    const email = newEmail();
    await register({ email });
    const stranger = await register({ tenantName: "Other" });
    const answers = await Promise.all([
      login({ email, password: "wrong password" }),
      login({ email: newEmail(), password: PASSWORD }),
      login({ email, password: PASSWORD, tenantId: stranger.body.user.tenantId }),
    ]);
    const shapes = answers.map(({ status, body: { requestId, ...rest } }) => ({ status, ...rest }));
    expect(shapes[0]?.status).toBe(401);
    expect(new Set(shapes.map((shape) => JSON.stringify(shape))).size).toBe(1);
  });

  test("forged, foreign and expired tokens are refused", async () => {
    const { body } = await register();
    const [head, claims, signature] = body.token.split(".");
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const sign = (secret: string, setUp: (jwt: SignJWT) => SignJWT) =>
      setUp(
        new SignJWT({ tenantId: body.user.tenantId, role: "admin" })
          .setProtectedHeader({ alg: "HS256" })
          .setSubject(body.user.id)
          .setIssuer("footfall")
          .setAudience("footfall-api"),
      ).sign(new TextEncoder().encode(secret));
    const secret = api.config.jwtSecret;
    const tokens = {
      "no signature": `${encode({ alg: "none" })}.${claims}.`,
      "another role": `${head}.${encode({ ...JSON.parse(Buffer.from(claims, "base64url").toString()), role: "admin" })}.${signature}`,
      "another secret": await sign("x".repeat(40), (jwt) => jwt.setExpirationTime("1h")),
      expired: await sign(secret, (jwt) => jwt.setExpirationTime(Math.floor(Date.now() / 1000) - 1)),
      "without expiry": await sign(secret, (jwt) => jwt),
      "another audience": await sign(secret, (jwt) => jwt.setAudience("else").setExpirationTime("1h")),
      rubbish: "rubbish",
    };
    for (const [name, token] of Object.entries(tokens)) {
      const { status } = await api.call("GET", "/auth/me", { as: token });
      expect(`${name}: ${status}`).toBe(`${name}: 401`);
    }
  });

  test("X-Tenant-Id selects a membership; any other tenant is 403", async () => {
    const { body } = await register();
    const other = await register({ tenantName: "Second shop" });
    const second = other.body.user.tenantId;
    const headers = { "x-tenant-id": second };
    expect((await api.call("GET", "/auth/me", { as: body.token, headers })).status).toBe(403);
    await api.sql`insert into memberships (tenant_id, user_id, role) values (${second}, ${body.user.id}, 'analyst')`;
    const me = await api.call("GET", "/auth/me", { as: body.token, headers });
    expect(me.body.user).toMatchObject({ tenantId: second, role: "analyst" });
    for (const value of ["not-a-uuid", "", crypto.randomUUID()]) {
      const { status } = await api.call("GET", "/auth/me", {
        as: body.token,
        headers: { "x-tenant-id": value },
      });
      expect(status).toBe(403);
    }
  });
});

test("a tenant's id is the same in capitals", async () => {
  const email = newEmail();
  const { body } = await register({ email, tenantName: "Capitals" });
  const tenantId = body.user.tenantId.toUpperCase();
  const signedIn = await login({ email, password: PASSWORD, tenantId });
  expect(signedIn.body.user.tenantId).toBe(body.user.tenantId);
  const headers = { "x-tenant-id": tenantId };
  expect((await api.call("GET", "/auth/me", { as: body.token, headers })).status).toBe(200);
});

describe("refresh and logout", () => {
  test("rotates: the new token works", async () => {
    const { body } = await register();
    const second = await refresh(body.refreshToken);
    expect(second.status).toBe(200);
    expect(second.body.user).toEqual(body.user);
    expect(second.body.refreshToken).not.toBe(body.refreshToken);
    expect((await refresh(second.body.refreshToken)).status).toBe(200);
  });

  test("a reused token ends its family, and only that", async () => {
    const email = newEmail();
    const { body } = await register({ email });
    const otherSession = await login({ email, password: PASSWORD });
    const second = await refresh(body.refreshToken);
    expect((await refresh(body.refreshToken)).status).toBe(401);
    expect((await refresh(second.body.refreshToken)).status).toBe(401);
    expect((await refresh(otherSession.body.refreshToken)).status).toBe(200);
  });

  test.each([2, 3, 10])("of %d uses at once one wins at the most, and the family is ended", async (uses) => {
    const { body } = await register();
    let { refreshToken } = body;
    for (let round = 0; round < 5; round += 1) {
      const answers = await Promise.all(Array.from({ length: uses }, () => refresh(refreshToken)));
      const winners = answers.filter((one) => one.status === 200);
      expect(winners.length).toBe(1);
      expect((await refresh(winners[0]?.body.refreshToken)).status).toBe(401);
      refreshToken = (await login({ email: body.user.email, password: PASSWORD })).body.refreshToken;
    }
  });

  test("expired and unknown ones are refused", async () => {
    const { body } = await register();
    await api.sql`update refresh_tokens set expires_at = now() - interval '1 second' where user_id = ${body.user.id}`;
    for (const token of [body.refreshToken, "unknown", "\0", "\ud83d"])
      expect((await refresh(token)).status).toBe(401);
  });

  test("logout ends the session, and says nothing about unknown ones", async () => {
    const { body } = await register();
    const logout = (refreshToken: string) => api.call("POST", "/auth/logout", { json: { refreshToken } });
    expect((await logout(body.refreshToken)).status).toBe(204);
    expect((await refresh(body.refreshToken)).status).toBe(401);
    expect((await logout("unknown")).status).toBe(204);
  });

  test("only hashes are stored", async () => {
    const { body } = await register();
    const rows = await api.sql`select row_to_json(t)::text as text from refresh_tokens t
      union all select row_to_json(u)::text from users u`;
    const all = rows.map((row) => row.text).join();
    expect(all).not.toContain(body.refreshToken);
    expect(all).not.toContain(PASSWORD);
  });
});
