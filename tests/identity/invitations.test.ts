/**
 * Invitations are listed, withdrawn and superseded, and end with the rights of the invited or the
 * inviting person.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type Answer,
  createPerson,
  createTenant,
  createTestApi,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
let emails = 0;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const newEmail = () => {
  emails += 1;
  return `guest-${emails}@example.com`;
};
const invite = async (email: string, role = "admin", as = tenant.key) =>
  (await api.call("POST", "/members", { as, json: { email, role } })).body;
const accept = (as: string, token: string) => api.call("POST", "/members/accept", { as, json: { token } });
const register = async (email: string, invitationToken?: string) =>
  api.call("POST", "/auth/register", {
    json: { email, password: "correct horse battery", invitationToken },
  });
const listed = async (as = tenant.key) => (await api.call("GET", "/members/invitations", { as })).body.items;
const auditOf = async (action: string, target: string) =>
  (await api.call("GET", "/audit", { as: tenant.key })).body.items.find(
    (one: { action: string; target: string }) => one.action === action && one.target === target,
  );

/** Somebody who has an account, is an admin here by invitation, and holds a spare invitation. */
async function adminWithSpare() {
  // The last admin could not be removed.
  await createPerson(api, tenant.tenantId, "admin");
  const email = newEmail();
  const { token, user } = (await register(email)).body;
  await accept(token, (await invite(email)).token);
  const spare = await invite(email);
  return { email, token, userId: user.id as string, spare };
}

describe("an open invitation", () => {
  test("is listed without its token, newest first, with who made it, until it is taken", async () => {
    const { userId, token } = await createPerson(api, tenant.tenantId, "admin");
    const email = newEmail();
    const [older, newer] = [await invite(newEmail(), "analyst"), await invite(email, "customer", token)];
    const { token: secret, ...shown } = newer;
    expect(shown.invitedBy).toBe(`user:${userId}`);
    expect((await listed()).map(({ id }: { id: string }) => id)).toEqual([newer.id, older.id]);
    expect((await listed())[0]).toEqual(shown);
    expect(JSON.stringify(await listed())).not.toContain(secret);
    await register(email, secret);
    expect((await listed()).map(({ id }: { id: string }) => id)).toEqual([older.id]);
  });

  test("comes in pages", async () => {
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) ids.unshift((await invite(newEmail())).id);
    const seen: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const path: string = `/members/invitations?limit=2${cursor && `&cursor=${cursor}`}`;
      const { body } = await api.call("GET", path, { as: tenant.key });
      seen.push(...body.items.map(({ id }: { id: string }) => id));
      cursor = body.nextCursor;
    }
    expect(seen).toEqual(ids);
    const { body } = await api.call("GET", "/members/invitations?limit=2", { as: tenant.key });
    expect((await api.call("GET", `/members?cursor=${body.nextCursor}`, { as: tenant.key })).status).toBe(
      400,
    );
  });

  test("can be withdrawn once, by its own tenant, and is audited", async () => {
    const other = await createTenant(api);
    const email = newEmail();
    const { token, ...invitation } = await invite(email, "analyst");
    const path = `/members/invitations/${invitation.id}`;
    expect((await api.call("DELETE", path, { as: other.key })).status).toBe(404);
    expect((await api.call("DELETE", path, { as: tenant.key })).status).toBe(204);
    expect((await api.call("DELETE", path, { as: tenant.key })).status).toBe(404);
    expect((await api.call("DELETE", "/members/invitations/x", { as: tenant.key })).status).toBe(404);
    expect((await register(email, token)).status).toBe(404);
    expect(await auditOf("invitation.revoked", invitation.id)).toMatchObject({ before: invitation });
  });

  test("is superseded by a newer one for the same e-mail, also when both are made at once", async () => {
    const email = newEmail();
    const admins = await Promise.all(
      Array.from({ length: 6 }, () => createPerson(api, tenant.tenantId, "admin")),
    );
    const made = await Promise.all(admins.map(({ token }) => invite(email, "analyst", token)));
    const open = await listed();
    expect(open.length).toBe(1);
    const older = made.find(({ id }) => id !== open[0].id);
    expect((await register(email, older.token)).status).toBe(404);
    const newest = made.find(({ id }) => id === open[0].id);
    expect((await register(email, newest.token)).status).toBe(201);
  });

  test("ends when another one for the e-mail is taken", async () => {
    const email = newEmail();
    const first = await invite(email, "customer");
    const second = await invite(email, "admin");
    // As rows that were made before superseding was known.
    await api.sql`update invitations set revoked_at = null where id = ${first.id}`;
    const { body } = await register(email, first.token);
    expect((await accept(body.token, second.token)).status).toBe(404);
  });
});

describe("a spare invitation", () => {
  test("does not bring back who was removed", async () => {
    const { token, userId, spare } = await adminWithSpare();
    expect((await api.call("DELETE", `/members/${userId}`, { as: tenant.key })).status).toBe(204);
    expect((await accept(token, spare.token)).status).toBe(404);
    expect(await auditOf("member.removed", userId)).toMatchObject({
      after: { revokedInvitations: [spare.id] },
    });
  });

  test("does not raise who was demoted", async () => {
    const { token, userId, spare } = await adminWithSpare();
    const admin = await createPerson(api, tenant.tenantId, "admin");
    const json = { role: "customer" };
    expect((await api.call("PATCH", `/members/${userId}`, { as: admin.token, json })).status).toBe(204);
    expect((await accept(token, spare.token)).status).toBe(404);
    const [row] = await api.sql`select role from memberships
      where tenant_id = ${tenant.tenantId} and user_id = ${userId}`;
    expect(row?.role).toBe("customer");
  });

  test("that the removed one had made for a friend is void, those of others stay", async () => {
    const { token, userId } = await adminWithSpare();
    const [friend, stranger] = [newEmail(), newEmail()];
    const forFriend = await inviteAt(tenant.tenantId, token, friend);
    const forStranger = await invite(stranger, "analyst");
    await api.call("DELETE", `/members/${userId}`, { as: tenant.key });
    expect((await register(friend, forFriend.token)).status).toBe(404);
    expect((await register(stranger, forStranger.token)).status).toBe(201);
  });

  test("accepted while its holder is being removed leaves nobody in, whoever is first", async () => {
    for (let round = 0; round < 10; round += 1) {
      const { token, userId, spare } = await adminWithSpare();
      await Promise.all([
        accept(token, spare.token),
        api.call("DELETE", `/members/${userId}`, { as: tenant.key }),
      ]);
      const left = await api.sql`select from memberships
        where tenant_id = ${tenant.tenantId} and user_id = ${userId}`;
      expect(left.length).toBe(0);
    }
  });
});

async function inviteAt(tenantId: string, as: string, email: string) {
  const headers = { "x-tenant-id": tenantId };
  return (await api.call("POST", "/members", { as, headers, json: { email, role: "admin" } })).body;
}

describe("in the seconds that a checked credential is remembered", () => {
  /** A removed admin whose token this process still takes for an admin's. */
  async function justRemoved() {
    const admin = await createPerson(api, tenant.tenantId, "admin");
    const json = { email: newEmail(), role: "customer" };
    expect((await api.call("POST", "/members", { as: admin.token, json })).status).toBe(201);
    await api.sql`delete from memberships where user_id = ${admin.userId}`;
    expect((await api.call("GET", "/members", { as: admin.token })).status).toBe(200);
    return admin;
  }

  test("who was removed makes no invitation, no key and no change of role", async () => {
    const { token } = await justRemoved();
    const other = await createPerson(api, tenant.tenantId, "customer");
    const tries = [
      await api.call("POST", "/members", { as: token, json: { email: newEmail(), role: "admin" } }),
      await api.call("POST", "/api-keys", { as: token, json: { name: "spare", scopes: ["admin"] } }),
      await api.call("PATCH", `/members/${other.userId}`, { as: token, json: { role: "admin" } }),
      await api.call("DELETE", `/members/${other.userId}`, { as: token }),
    ];
    expect(tries.map(({ status }) => status)).toEqual([403, 403, 403, 403]);
  });

  test("a revoked key makes none either", async () => {
    const { body } = await api.call("POST", "/api-keys", {
      as: tenant.key,
      json: { name: "k", scopes: ["admin"] },
    });
    expect((await api.call("GET", "/members", { as: body.key })).status).toBe(200);
    await api.sql`update api_keys set revoked_at = now() where id = ${body.id}`;
    const again = await api.call("POST", "/api-keys", { as: body.key, json: { name: "spare" } });
    expect(again.status).toBe(403);
    expect((await api.call("POST", `/api-keys/${body.id}/rotate`, { as: body.key, json: {} })).status).toBe(
      403,
    );
  });
});

describe("signing in with an invitation", () => {
  const PASSWORD = "correct horse battery";
  const login = (json: object) => api.call("POST", "/auth/login", { json });
  const visible = ({ status, body: { requestId, ...rest } }: Answer) => JSON.stringify({ status, ...rest });

  test("is the way back for who was removed from the only tenant", async () => {
    const email = newEmail();
    const { body } = await register(email, (await invite(email, "customer")).token);
    await api.call("DELETE", `/members/${body.user.id}`, { as: tenant.key });
    expect((await login({ email, password: PASSWORD })).status).toBe(401);
    const { token } = await invite(email, "analyst");
    const back = await login({ email, password: PASSWORD, invitationToken: token });
    expect(back.body.user).toMatchObject({ id: body.user.id, role: "analyst", tenantId: tenant.tenantId });
    expect((await api.call("GET", "/auth/me", { as: back.body.token })).body.user.role).toBe("analyst");
    expect((await login({ email, password: PASSWORD, invitationToken: token })).status).toBe(401);
    expect((await login({ email, password: PASSWORD })).status).toBe(200);
  });

  test("brings none of the sessions back that ended with the removal", async () => {
    const email = newEmail();
    const { body } = await register(email, (await invite(email, "customer")).token);
    await api.call("DELETE", `/members/${body.user.id}`, { as: tenant.key });
    const { token } = await invite(email, "customer");
    const back = await login({ email, password: PASSWORD, invitationToken: token });
    const refresh = (refreshToken: string) => api.call("POST", "/auth/refresh", { json: { refreshToken } });
    expect((await refresh(body.refreshToken)).status).toBe(401);
    expect((await refresh(back.body.refreshToken)).status).toBe(200);
  });

  test("takes the right password and an invitation of that e-mail, and says not which was wrong", async () => {
    const [email, other] = [newEmail(), newEmail()];
    await register(email);
    await register(other);
    const { token: invitationToken } = await invite(email);
    const refused = [
      await login({ email, password: "wrong password" }),
      await login({ email, password: "wrong password", invitationToken }),
      await login({ email: other, password: PASSWORD, invitationToken }),
      await login({ email, password: PASSWORD, invitationToken: `${invitationToken.slice(0, -2)}xx` }),
      await login({ email: newEmail(), password: PASSWORD, invitationToken }),
    ];
    expect(refused[0]?.status).toBe(401);
    expect(new Set(refused.map(visible)).size).toBe(1);
    const both = { email, password: PASSWORD, invitationToken, tenantId: tenant.tenantId };
    expect((await login(both)).status).toBe(400);
    expect((await login({ email, password: PASSWORD, invitationToken })).status).toBe(200);
  });
});

test("joining again with another role is audited with what was before", async () => {
  const email = newEmail();
  const { body } = await register(email, (await invite(email, "customer")).token);
  expect(await auditOf("member.joined", body.user.id)).toMatchObject({ before: null });
  await accept(body.token, (await invite(email, "analyst")).token);
  expect(await auditOf("member.joined", body.user.id)).toMatchObject({
    before: { role: "customer", sellerId: null },
    after: { role: "analyst", sellerId: null },
  });
});
