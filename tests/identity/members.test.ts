import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createPerson, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let admin: { userId: string; token: string };
let emails = 0;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  admin = await createPerson(api, tenant.tenantId, "admin");
});
afterAll(cleanup);

const PASSWORD = "correct horse battery";
const newEmail = () => {
  emails += 1;
  return `member-${emails}@example.com`;
};
const invite = (json: object, as = admin.token) => api.call("POST", "/members", { as, json });
const accept = (as: string, token: string) => api.call("POST", "/members/accept", { as, json: { token } });
const register = (json: object) =>
  api.call("POST", "/auth/register", { json: { password: PASSWORD, ...json } });
const membersOf = async (as: string) => (await api.call("GET", "/members?limit=100", { as })).body.items;

describe("an invitation", () => {
  test("brings a new person in, with its role and seller, once", async () => {
    const email = newEmail();
    const { status, body } = await invite({ email, role: "seller", sellerId: "s-1" });
    expect(status).toBe(201);
    expect(body).toMatchObject({ email, role: "seller", sellerId: "s-1" });
    const joined = await register({ email, invitationToken: body.token });
    expect(joined.body.user).toMatchObject({ role: "seller", tenantId: tenant.tenantId });
    expect(await membersOf(admin.token)).toContainEqual(
      expect.objectContaining({ userId: joined.body.user.id, email, role: "seller", sellerId: "s-1" }),
    );
    expect((await accept(joined.body.token, body.token)).status).toBe(404);
  });

  test("brings in who has an account already", async () => {
    const email = newEmail();
    const person = (await register({ email })).body;
    const { body } = await invite({ email: email.toUpperCase(), role: "analyst" });
    const joined = await accept(person.token, body.token);
    expect(joined.body).toEqual({ tenantId: tenant.tenantId, role: "analyst", sellerId: null });
    const headers = { "x-tenant-id": tenant.tenantId };
    const me = await api.call("GET", "/auth/me", { as: person.token, headers });
    expect(me.body.user).toMatchObject({ role: "analyst", tenantId: tenant.tenantId });
  });

  test("of somebody else, changed, or too old is none", async () => {
    const { body } = await invite({ email: newEmail(), role: "admin" });
    const other = (await register({ email: newEmail() })).body;
    expect((await accept(other.token, body.token)).status).toBe(404);
    expect((await register({ email: newEmail(), invitationToken: body.token })).status).toBe(404);
    const mine = await invite({ email: other.user.email, role: "admin" });
    expect((await accept(other.token, `${mine.body.token.slice(0, -2)}xx`)).status).toBe(404);
    await api.sql`update invitations set expires_at = now() - interval '1 second' where id = ${mine.body.id}`;
    expect((await accept(other.token, mine.body.token)).status).toBe(404);
  });

  test("taken ten times at once is taken once", async () => {
    const email = newEmail();
    const { body } = await invite({ email, role: "customer" });
    const person = (await register({ email })).body;
    const answers = await Promise.all(Array.from({ length: 10 }, () => accept(person.token, body.token)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array(9).fill(404)]);
  });

  test("used for ten accounts at once makes one", async () => {
    const email = newEmail();
    const { body } = await invite({ email, role: "customer" });
    const tries = Array.from({ length: 10 }, () => register({ email, invitationToken: body.token }));
    const statuses = (await Promise.all(tries)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 201).length).toBe(1);
    expect(statuses.every((status) => [201, 404, 409].includes(status))).toBe(true);
  });

  test("does not let the last admin become less", async () => {
    const email = newEmail();
    const { token, user } = (await register({ email, tenantName: "Alone" })).body;
    const { body } = await invite({ email, role: "customer" }, token);
    expect((await accept(token, body.token)).status).toBe(409);
    expect((await membersOf(token))[0]).toMatchObject({ userId: user.id, role: "admin" });
  });

  test("and a tenant name together are refused", async () => {
    const json = { email: newEmail(), invitationToken: "a.b.c", tenantName: "Both" };
    expect((await register(json)).status).toBe(400);
  });
});

describe("a member", () => {
  test("changes role at once, and what the token says does not matter", async () => {
    const { userId, token } = await createPerson(api, tenant.tenantId, "customer");
    expect((await api.call("GET", "/members", { as: token })).status).toBe(403);
    const change = { role: "admin", sellerId: null };
    const path = `/members/${userId}`;
    expect((await api.call("PATCH", path, { as: admin.token, json: change })).status).toBe(204);
    expect(await membersOf(admin.token)).toContainEqual(expect.objectContaining({ userId, ...change }));
    await Bun.sleep(2_100);
    expect((await api.call("GET", "/members", { as: token })).status).toBe(200);
    const back = { role: "customer", sellerId: null };
    expect((await api.call("PATCH", path, { as: admin.token, json: back })).status).toBe(204);
    expect(await membersOf(admin.token)).toContainEqual(expect.objectContaining({ userId, ...back }));
  });

  test("who is removed is out, with the refresh tokens of this tenant", async () => {
    const email = newEmail();
    const { body } = await invite({ email, role: "analyst" });
    const { token, refreshToken, user } = (await register({ email, invitationToken: body.token })).body;
    const path = `/members/${user.id}`;
    expect((await api.call("DELETE", path, { as: admin.token })).status).toBe(204);
    expect((await api.call("DELETE", path, { as: admin.token })).status).toBe(404);
    expect((await api.call("POST", "/auth/refresh", { json: { refreshToken } })).status).toBe(401);
    expect((await api.call("POST", "/auth/login", { json: { email, password: PASSWORD } })).status).toBe(401);
    expect((await api.call("GET", "/auth/me", { as: token })).status).toBe(403);
  });

  test.each([
    {},
    { role: "owner" },
    { role: null },
    { sellerId: "" },
    { sellerId: "x".repeat(101) },
    { email: "a@b.de" },
  ])("is not changed by %j", async (json) => {
    const path = `/members/${admin.userId}`;
    expect((await api.call("PATCH", path, { as: admin.token, json })).status).toBe(400);
  });

  test("who is the last admin stays one", async () => {
    const alone = await createTenant(api);
    const { userId, token } = await createPerson(api, alone.tenantId, "admin");
    const path = `/members/${userId}`;
    expect((await api.call("DELETE", path, { as: token })).status).toBe(409);
    expect((await api.call("PATCH", path, { as: token, json: { role: "analyst" } })).status).toBe(409);
    expect((await api.call("PATCH", path, { as: token, json: { role: "admin" } })).status).toBe(204);
  });

  test("two admins who remove each other at once leave one", async () => {
    for (let round = 0; round < 10; round += 1) {
      const shop = await createTenant(api);
      const people = [
        await createPerson(api, shop.tenantId, "admin"),
        await createPerson(api, shop.tenantId, "admin"),
      ];
      const answers = await Promise.all(
        people.map(({ userId }) => api.call("DELETE", `/members/${userId}`, { as: shop.key })),
      );
      expect(answers.map(({ status }) => status).sort()).toEqual([204, 409]);
    }
  });
});

test("the list has pages, and a cursor of its own", async () => {
  const shop = await createTenant(api);
  const people = await Promise.all(
    Array.from({ length: 5 }, () => createPerson(api, shop.tenantId, "customer")),
  );
  const seen: string[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const { body } = await api.call("GET", `/members?limit=2${cursor && `&cursor=${cursor}`}`, {
      as: shop.key,
    });
    seen.push(...body.items.map((item: { userId: string }) => item.userId));
    cursor = body.nextCursor;
  }
  expect(seen).toEqual(people.map(({ userId }) => userId).sort());
  const audit = await api.call("GET", "/members?limit=2", { as: shop.key });
  for (const query of [
    `/audit?cursor=${audit.body.nextCursor}`,
    "/members?cursor=x",
    "/members?limit=0",
    "/members?x=1",
  ])
    expect((await api.call("GET", query, { as: shop.key })).status).toBe(400);
});
