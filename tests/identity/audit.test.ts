/**
 * Everything that an admin can do leaves an entry, by the document: a new operation without one
 * fails here.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ACCESS, type AccessRule } from "../../src/core/access.ts";
import { readDocument } from "../contract/document.ts";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { orderInput } from "../orders/shop.ts";

let api: TestApi;
let tenant: TestTenant;
let admin: { userId: string; token: string };

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  admin = await createPerson(api, tenant.tenantId, "admin");
});
afterAll(cleanup);

const entries = async () => (await api.call("GET", "/audit?limit=100", { as: tenant.key })).body.items;
const send = (method: string, path: string, json?: object, headers = {}) =>
  api.call(method, path, { as: admin.token, json, headers });

/** What each writing operation of the admins' is called with, and the entry that it leaves. */
const WRITES: Record<string, { action: string; run: () => Promise<unknown> }> = {
  clearCache: { action: "cache.cleared", run: () => send("DELETE", "/cache/clear") },
  clearAnalyticsCache: { action: "cache.cleared", run: () => send("POST", "/analytics/cache/clear") },
  updateTenant: {
    action: "tenant.updated",
    run: () => send("PATCH", "/tenants/current", { name: "Renamed" }),
  },
  inviteMember: {
    action: "member.invited",
    run: () => send("POST", "/members", { email: "a@example.com", role: "customer" }),
  },
  revokeInvitation: {
    action: "invitation.revoked",
    run: async () => {
      const { body } = await send("POST", "/members", { email: "b@example.com", role: "customer" });
      await send("DELETE", `/members/invitations/${body.id}`);
    },
  },
  updateMember: {
    action: "member.updated",
    run: async () => {
      const { userId } = await createPerson(api, tenant.tenantId, "customer");
      await send("PATCH", `/members/${userId}`, { role: "analyst" });
    },
  },
  removeMember: {
    action: "member.removed",
    run: async () => {
      const { userId } = await createPerson(api, tenant.tenantId, "customer");
      await send("DELETE", `/members/${userId}`);
    },
  },
  createPasswordResetLink: {
    action: "user.password_reset_link",
    run: async () => {
      const { userId } = await createPerson(api, tenant.tenantId, "customer");
      await send("POST", `/members/${userId}/password-reset`);
    },
  },
  chooseProperties: {
    action: "tenant.properties_chosen",
    run: () => send("PUT", "/tenants/current/properties", { properties: ["country"] }),
  },
  voidEvent: {
    action: "event.voided",
    run: async () => {
      const { body } = await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
      await send("POST", `/events/${body.id}/void`);
    },
  },
  createApiKey: { action: "api_key.created", run: () => send("POST", "/api-keys", { name: "new" }) },
  rotateApiKey: {
    action: "api_key.rotated",
    run: () => withKey((id) => send("POST", `/api-keys/${id}/rotate`, {})),
  },
  revokeApiKey: { action: "api_key.revoked", run: () => withKey((id) => send("DELETE", `/api-keys/${id}`)) },
  createWebhook: {
    action: "webhook.created",
    run: () => send("POST", "/webhooks", { url: "https://1.1.1.1/" }),
  },
  updateWebhook: {
    action: "webhook.updated",
    run: () => withWebhook((id) => send("PATCH", `/webhooks/${id}`, { topics: [] })),
  },
  deleteWebhook: {
    action: "webhook.deleted",
    run: () => withWebhook((id) => send("DELETE", `/webhooks/${id}`)),
  },
  rotateWebhookSecret: {
    action: "webhook.secret_rotated",
    run: () => withWebhook((id) => send("POST", `/webhooks/${id}/rotate-secret`)),
  },
  testWebhook: {
    action: "webhook.tested",
    run: () => withWebhook((id) => send("POST", `/webhooks/${id}/test`)),
  },
  replayWebhookDelivery: {
    action: "webhook.replayed",
    run: () =>
      withWebhook(async (id) => {
        const { body } = await send("POST", `/webhooks/${id}/test`);
        await api.sql`update webhook_deliveries set status = 'failed' where id = ${body.id}`;
        await send("POST", `/webhooks/${id}/deliveries/${body.id}/replay`);
      }),
  },
  updateOrderStatus: {
    action: "order.status_requested",
    run: async () => {
      const { body } = await send("POST", "/orders", orderInput());
      await send("PUT", `/orders/${body.id}/status`, { status: "cancelled" });
    },
  },
  purgeQueue: {
    action: "queue.purged",
    run: async () => {
      await send("POST", "/orders", orderInput());
      await send("DELETE", "/queue/purge");
    },
  },
  retryDeadLetter: {
    action: "dead_letter.retried",
    run: async () => {
      await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
      const [dead] = await api.sql`update event_batches set dead_lettered_at = now(), attempts = 5
        where tenant_id = ${tenant.tenantId} and rolled_up_at is null returning batch_id as id`;
      await send("POST", `/queue/dead-letters/${dead?.id}/retry`);
    },
  },
};

async function withKey(use: (id: string) => Promise<unknown>): Promise<void> {
  await use((await send("POST", "/api-keys", { name: "used" })).body.id);
}

async function withWebhook(use: (id: string) => Promise<unknown>): Promise<void> {
  await use((await send("POST", "/webhooks", { url: "https://1.1.1.1/" })).body.id);
}

test("every operation that only admins have and that writes leaves one entry", async () => {
  const { operations } = await readDocument(api.call);
  const adminOnly = operations.filter(({ id, method }) => {
    const rule = ACCESS[id as keyof typeof ACCESS] as AccessRule;
    return method !== "GET" && !("public" in rule) && rule.roles.length === 1 && rule.roles[0] === "admin";
  });
  expect(adminOnly.map(({ id }) => id).sort()).toEqual(Object.keys(WRITES).sort());
  for (const [name, { action, run }] of Object.entries(WRITES)) {
    const before = new Set((await entries()).map((entry: { id: string }) => entry.id));
    await run();
    const added = (await entries()).filter(
      (entry: { id: string; action: string }) => !before.has(entry.id) && entry.action === action,
    );
    expect(`${name}: ${added.length}`).toBe(`${name}: 1`);
    expect(added[0]).toMatchObject({ actorKind: "user", actorId: admin.userId });
  }
});

test("an entry says who, what, before, after and with which request", async () => {
  const headers = { "x-request-id": "audited-request" };
  await send("PATCH", "/tenants/current", { lowStockThreshold: 77 }, headers);
  const [entry] = await entries();
  expect(entry).toMatchObject({
    actorKind: "user",
    actorId: admin.userId,
    action: "tenant.updated",
    target: tenant.tenantId,
    requestId: "audited-request",
    before: { lowStockThreshold: 5 },
    after: { lowStockThreshold: 77 },
  });
  await api.call("POST", "/api-keys", { as: tenant.key, json: { name: "by a key" } });
  expect((await entries())[0]).toMatchObject({ actorKind: "apiKey", action: "api_key.created" });
});

test("an admin made from the command line or at the start leaves one, once, and none when nothing changes", async () => {
  const { tenantId, slug, key } = await createTenant(api);
  const account = { email: `${slug}@example.com`, password: "correct horse", tenant: slug };
  const { ensureAdmin } = api.deps.identity;
  const made = async () =>
    (await api.call("GET", "/audit", { as: key })).body.items.filter(
      (entry: { action: string }) => !entry.action.startsWith("api_key."),
    );
  const [{ userId }] = await Promise.all([ensureAdmin(account), ensureAdmin(account)]);
  await ensureAdmin(account);
  const operator = { actorKind: "operator", actorId: "cli", target: userId };
  const after = { role: "admin", sellerId: null };
  expect(await made()).toEqual([
    expect.objectContaining({ ...operator, action: "member.joined", before: null, after }),
  ]);
  await api.sql`update memberships set role = 'seller', seller_id = 's1' where tenant_id = ${tenantId} and user_id = ${userId}`;
  await expect(ensureAdmin(account)).rejects.toThrow("no admin");
  await ensureAdmin({ ...account, promote: true });
  const before = { role: "seller", sellerId: "s1" };
  expect((await made())[0]).toMatchObject({ ...operator, action: "member.updated", before, after });
  expect((await made()).length).toBe(2);
  const json = { email: account.email, password: account.password };
  expect((await api.call("POST", "/auth/login", { json })).body.user).toMatchObject({
    id: userId,
    role: "admin",
  });
});

test("a password set from the command line ends the account's sessions and leaves one; the same one changes nothing", async () => {
  const { slug, key } = await createTenant(api);
  const account = { email: `${slug}@example.com`, password: "correct horse", tenant: slug };
  const { userId } = await api.deps.identity.ensureAdmin(account);
  const logIn = (password: string) =>
    api.call("POST", "/auth/login", { json: { email: account.email, password } });
  const { refreshToken } = (await logIn("correct horse")).body;
  const set = (password: string) =>
    api.deps.identity.ensureAdmin({ ...account, password, setPassword: true });
  expect(await set("correct horse")).toMatchObject({ created: false, passwordSet: false });
  expect(await set("battery staple")).toMatchObject({ created: false, passwordSet: true });
  expect((await logIn("correct horse")).status).toBe(401);
  expect((await logIn("battery staple")).status).toBe(200);
  expect((await api.call("POST", "/auth/refresh", { json: { refreshToken } })).status).toBe(401);
  const audit = (await api.call("GET", "/audit", { as: key })).body.items;
  const actions = audit.filter((entry: { target: string }) => entry.target === userId);
  expect(actions.map((entry: { action: string }) => entry.action)).toEqual([
    "user.password_set",
    "member.joined",
  ]);
  expect(JSON.stringify(audit)).not.toContain("argon2");
});

test("what was refused leaves none, and no entry holds a secret", async () => {
  const before = (await entries()).length;
  await send("POST", "/api-keys", { name: "x", scopes: ["everything"] });
  await send("DELETE", "/members/00000000-0000-7000-8000-00000000dead");
  await send("PATCH", `/members/${admin.userId}`, { role: "customer" });
  expect((await entries()).length).toBe(before);
  const { body } = await send("POST", "/api-keys", { name: "secret" });
  const invitation = (await send("POST", "/members", { email: "b@example.com", role: "customer" })).body;
  const [row] = await api.sql`select string_agg(a::text, '') as text from audit_log a`;
  for (const secret of [body.key, invitation.token, tenant.key]) expect(row?.text).not.toContain(secret);
});

test("the log has pages, newest first, of one tenant only", async () => {
  const other = await createTenant(api);
  for (let n = 0; n < 5; n += 1)
    await api.call("PATCH", "/tenants/current", { as: other.key, json: { lowStockThreshold: n } });
  const seen: number[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const { body } = await api.call("GET", `/audit?limit=2${cursor && `&cursor=${cursor}`}`, {
      as: other.key,
    });
    seen.push(
      ...body.items.map((item: { after: { lowStockThreshold: number } }) => item.after.lowStockThreshold),
    );
    cursor = body.nextCursor;
  }
  expect(seen.slice(0, 5)).toEqual([4, 3, 2, 1, 0]);
  expect(seen.length).toBe(6);
});
