/** Forged tokens, refresh tokens used twice, and keys that ask for more than their scopes. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type JWTPayload, SignJWT } from "jose";
import { newId, sha256 } from "../../src/core/ids.ts";
import { SCOPES } from "../../src/core/principal.ts";
import { callOver, createKey, createPerson, createTenant, type TestTenant } from "../factories.ts";
import { cleanup, eventually, startServer } from "../harness.ts";
import { startTarget, type Target } from "./target.ts";

const PASSWORD = "correct horse battery";

let target: Target;
let tenant: TestTenant;
let person: { userId: string; token: string };
let emails = 0;

beforeAll(async () => {
  target = await startTarget();
  tenant = await createTenant(target);
  person = await createPerson(target, tenant.tenantId, "customer");
});
afterAll(cleanup);

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const kidOf = (secret: string) => sha256(secret).slice(0, 8);
const me = (as: string) => target.call("GET", "/auth/me", { as });

interface Forgery {
  header?: object;
  claims?: JWTPayload;
  secret?: string;
}

/** A token as the server makes them, except for the changes; undefined removes a claim. */
function forge({ header = {}, claims = {}, secret = target.config.jwtSecret }: Forgery): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const all = {
    iss: "footfall",
    aud: "footfall-api",
    sub: person.userId,
    iat: now,
    exp: now + 900,
    tenantId: tenant.tenantId,
    role: "customer",
    ...claims,
  };
  return new SignJWT(JSON.parse(JSON.stringify(all)))
    .setProtectedHeader({ alg: "HS256", typ: "JWT", kid: kidOf(target.config.jwtSecret), ...header })
    .sign(new TextEncoder().encode(secret));
}

async function register(overrides: Record<string, unknown> = {}) {
  emails += 1;
  const json = { email: `token-${emails}@example.com`, password: PASSWORD, ...overrides };
  return (await target.call("POST", "/auth/register", { json })).body;
}

test("a token of ours, made here, is taken: so the forgeries fail for what is forged", async () => {
  expect((await me(await forge({}))).status).toBe(200);
});

test("forged, expired and misused tokens are a 401", async () => {
  const [head = "", claims = "", signature = ""] = person.token.split(".");
  const session = await register();
  const now = Math.floor(Date.now() / 1000);
  const unsigned = (alg: string) => `${encode({ alg, typ: "JWT", kid: kidOf(target.config.jwtSecret) })}`;
  const admin = encode({ ...JSON.parse(Buffer.from(claims, "base64url").toString()), role: "admin" });
  const forgeries: Record<string, string> = {
    "alg none": `${unsigned("none")}.${claims}.`,
    "alg None": `${unsigned("None")}.${claims}.`,
    "alg none with the signature": `${unsigned("none")}.${claims}.${signature}`,
    "alg empty": `${unsigned("")}.${claims}.${signature}`,
    "another algorithm, our secret": await forge({ header: { alg: "HS512" } }),
    "another role": `${head}.${admin}.${signature}`,
    "a broken signature": `${head}.${claims}.${"A".repeat(43)}`,
    "no signature": `${head}.${claims}.`,
    "two parts": `${head}.${claims}`,
    "four parts": `${person.token}.x`,
    "another secret": await forge({ secret: "x".repeat(40) }),
    "an empty kid": await forge({ header: { kid: "" } }),
    "a kid of nobody's": await forge({ header: { kid: "00000000" } }),
    "a kid that is a path": await forge({ header: { kid: "../../../dev/null" }, secret: "\0" }),
    "a kid that is SQL": await forge({ header: { kid: "' union select 'x" }, secret: "x" }),
    "its own key": await forge({
      header: { kid: undefined, jwk: { kty: "oct", k: "eA" } },
      secret: "x".repeat(40),
    }),
    "a key to fetch": await forge({ header: { kid: undefined, jku: "http://127.0.0.1:1/" }, secret: "x" }),
    expired: await forge({ claims: { exp: now - 1 } }),
    "without expiry": await forge({ claims: { exp: undefined } }),
    "not yet valid": await forge({ claims: { nbf: now + 600 } }),
    "another audience": await forge({ claims: { aud: "footfall-worker" } }),
    "no audience": await forge({ claims: { aud: undefined } }),
    "another issuer": await forge({ claims: { iss: "evil" } }),
    "no subject": await forge({ claims: { sub: undefined } }),
    "no tenant": await forge({ claims: { tenantId: undefined } }),
    "a refresh token": session.refreshToken,
    "the stored hash of a key": sha256(tenant.key),
    "a key's first half": tenant.key.slice(0, 20),
    "a key in capitals": tenant.key.toUpperCase(),
    "a key with a tail": `${tenant.key}x`,
  };
  for (const [name, token] of Object.entries(forgeries)) {
    const { status } = await me(token);
    const asKey = await target.call("GET", "/api-keys", { headers: { "x-api-key": token } });
    expect(`${name}: ${status} ${asKey.status}`).toBe(`${name}: 401 401`);
  }
  for (const refreshToken of [session.token, tenant.key, sha256(session.refreshToken)])
    expect((await target.call("POST", "/auth/refresh", { json: { refreshToken } })).status).not.toBe(200);
  expect((await target.call("POST", "/auth/refresh", { json: session })).status).toBe(400);
});

test("claims that nobody but us could sign still don't outrank the membership", async () => {
  const asAdmin = await forge({ claims: { role: "admin" } });
  expect((await target.call("GET", "/api-keys", { as: asAdmin })).status).toBe(403);
  const other = await createTenant(target);
  expect((await me(await forge({ claims: { tenantId: other.tenantId } }))).status).toBe(403);
  for (const claims of [
    { tenantId: "' or 1=1 --" },
    { tenantId: "\0" },
    { sub: "' or 1=1 --" },
    { sub: "x" },
  ])
    expect([400, 401, 403]).toContain((await me(await forge({ claims }))).status);
});

test("a refresh token used twice ends the family, in turn and at once", async () => {
  const refresh = (refreshToken: string) => target.call("POST", "/auth/refresh", { json: { refreshToken } });
  const first = await register();
  const second = await refresh(first.refreshToken);
  expect(second.status).toBe(200);
  expect((await refresh(first.refreshToken)).status).toBe(401);
  expect((await refresh(second.body.refreshToken)).status).toBe(401);
  for (let round = 0; round < 5; round += 1) {
    const { refreshToken } = await register();
    const answers = await Promise.all(Array.from({ length: 20 }, () => refresh(refreshToken)));
    const winners = answers.filter(({ status }) => status === 200);
    expect(winners.length).toBe(1);
    expect(answers.filter(({ status }) => status === 401).length).toBe(19);
    expect((await refresh(winners[0]?.body.refreshToken)).status).toBe(401);
  }
});

test("a key makes no key, and no member, unless it has the admin scope", async () => {
  for (const scope of SCOPES.filter((one) => one !== "admin")) {
    const as = await createKey(target, tenant.tenantId, [scope]);
    const tries = [
      await target.call("POST", "/api-keys", { as, json: { name: "more", scopes: ["admin"] } }),
      await target.call("POST", "/api-keys", { as, json: { name: "same", scopes: [scope] } }),
      await target.call("POST", "/members", { as, json: { email: "a@example.com", role: "admin" } }),
      await target.call("PATCH", `/members/${person.userId}`, { as, json: { role: "admin" } }),
      await target.call("PATCH", "/tenants/current", { as, json: { name: "mine" } }),
    ];
    expect(tries.map(({ status }) => status)).toEqual([403, 403, 403, 403, 403]);
  }
});

test("a publishable key stays one, whatever is asked, rotated or not", async () => {
  const make = (json: object) =>
    target.call("POST", "/api-keys", { as: tenant.key, json: { name: "shop", ...json } });
  for (const scopes of [["admin"], ["events:write", "events:read"], ["orders:write"]])
    expect((await make({ kind: "publishable", scopes })).status).toBe(400);
  const { body } = await make({ kind: "publishable" });
  const rotate = (json: object) =>
    target.call("POST", `/api-keys/${body.id}/rotate`, { as: tenant.key, json });
  for (const json of [{ scopes: ["admin"] }, { kind: "secret" }, { overlapSeconds: -1 }])
    expect((await rotate(json)).status).toBe(400);
  const rotated = await rotate({});
  expect(rotated.body).toMatchObject({ kind: "publishable", scopes: ["events:write"] });
  for (const path of ["/events", "/api-keys", "/analytics/summary"])
    expect((await target.call("GET", path, { as: rotated.body.key })).status).toBe(403);
});

test("JWT keys change by kid: the former one's tokens and invitations hold while it is named, and not longer", async () => {
  const next = "n3xtS3cr3t-Wm5Tq8Zr1Lk6Pd9Vx2Hb4Jc7Fg0Ys3Na";
  const both = await startServer({
    ...target.env,
    JWT_SECRET: next,
    JWT_SECRET_PREVIOUS: target.config.jwtSecret,
  });
  const only = await startServer({ ...target.env, JWT_SECRET: next });
  const statusAt = async (url: string, as: string) => (await callOver(url)("GET", "/auth/me", { as })).status;
  const invited = { email: `${newId()}@example.com`, role: "customer" };
  const invitation = await target.call("POST", "/members", { as: tenant.key, json: invited });
  const join = async (url: string) => {
    const json = { email: invited.email, password: PASSWORD, invitationToken: invitation.body.token };
    return (await callOver(url)("POST", "/auth/register", { json })).status;
  };
  expect([await join(only.url), await join(both.url)]).toEqual([404, 201]);
  const fresh = await forge({ header: { kid: kidOf(next) }, secret: next });
  const swapped = await forge({ header: { kid: kidOf(next) } });
  for (const [token, expected] of [
    [person.token, [200, 200, 401]],
    [fresh, [401, 200, 200]],
    [swapped, [401, 401, 401]],
  ] as const)
    expect([
      await statusAt(target.server.url, token),
      await statusAt(both.url, token),
      await statusAt(only.url, token),
    ]).toEqual([...expected]);
});

test("a revoked key and a removed member are out of every instance within five seconds", async () => {
  const other = await startServer(target.env);
  const calls = [target.call, callOver(other.url)];
  const key = await target.call("POST", "/api-keys", {
    as: tenant.key,
    json: { name: "k", scopes: ["admin"] },
  });
  const member = await createPerson(target, tenant.tenantId, "analyst");
  const statuses = (as: string) =>
    Promise.all(calls.map(async (call) => (await call("GET", "/tenants/current", { as })).status));
  expect(await statuses(key.body.key)).toEqual([200, 200]);
  expect(await statuses(member.token)).toEqual([200, 200]);
  await target.call("DELETE", `/api-keys/${key.body.id}`, { as: tenant.key });
  await target.call("DELETE", `/members/${member.userId}`, { as: tenant.key });
  const patience = { timeoutMs: 5_000, intervalMs: 100 };
  await eventually(async () => expect(await statuses(key.body.key)).toEqual([401, 401]), patience);
  await eventually(async () => expect(await statuses(member.token)).toEqual([403, 403]), patience);
});
