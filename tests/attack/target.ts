/** The target of the attacks: a server process with its own Postgres database and Redis. */
import { expect } from "bun:test";
import {
  type CallRequest,
  callOver,
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { type FootfallProcess, startServer } from "../harness.ts";
import { createProduct } from "../orders/shop.ts";

export const SLOW_MS = 2_000;
export const ABSENT = "00000000-0000-7000-8000-00000000dead";

export interface Target extends TestApi {
  server: FootfallProcess & { url: string };
}

/** `call` goes through the socket, and fails the test for a 5xx or for an answer that takes 2 s. */
export async function startTarget(overrides: Record<string, string> = {}): Promise<Target> {
  const api = await createTestApi(overrides);
  const server = await startServer({ ...api.env, LOG_LEVEL: "debug" });
  return { ...api, server, call: watched(callOver(server.url)) };
}

export function watched(call: TestApi["call"]): TestApi["call"] {
  return async (method: string, path: string, request?: CallRequest) => {
    const startedAt = performance.now();
    const answer = await call(method, path, request);
    const took = Math.round(performance.now() - startedAt);
    if (answer.status >= 500 || took >= SLOW_MS)
      throw new Error(
        `${method} ${path} answered ${answer.status} after ${took} ms: ${JSON.stringify(answer.body)}`,
      );
    return answer;
  };
}

export interface Victim extends TestTenant {
  /** Of everything it has: events, batches, keys, members, invitations, webhooks, names. */
  ids: string[];
  admin: { userId: string; token: string };
  invitationToken: string;
}

/** A tenant with something of every kind, in which every text begins with "victim". */
export async function createVictim(target: Target): Promise<Victim> {
  const tenant = await createTenant(target);
  const { sql, deps } = target;
  const admin = await createPerson(target, tenant.tenantId, "admin");
  await sql`update tenants set name = 'victim-shop', slug = ${`victim-${tenant.slug}`} where id = ${tenant.tenantId}`;
  await sql`update users set name = 'victim-admin', email = ${`victim-${admin.userId}@example.com`} where id = ${admin.userId}`;
  const event = eventInput({
    type: "purchase",
    productId: "victim-product",
    userId: "victim-user",
    sessionId: "victim-session",
    properties: { price: 98_765, country: "victim-country" },
  });
  const as = tenant.key;
  const stored = await target.call("POST", "/events", { as, json: event });
  await rollUpAll({ deps });
  await target.call("POST", "/events", { as, json: event });
  const product = {
    id: "victim-product",
    sku: "victim-sku",
    name: "victim-tea",
    category: "victim-category",
  };
  const listed = await target.call("POST", "/products", {
    as,
    json: { ...product, sellerId: "victim-seller", price: 98_765 },
  });
  const [dead] =
    await sql`update event_batches set dead_lettered_at = now(), attempts = 5, last_error = 'victim-error'
    where tenant_id = ${tenant.tenantId} and rolled_up_at is null returning batch_id as id`;
  const invitation = await target.call("POST", "/members", {
    as,
    json: { email: "victim-guest@example.com", role: "seller", sellerId: "victim-seller" },
  });
  const webhook = await target.call("POST", "/webhooks", {
    as,
    json: { url: "https://1.1.1.1/victim-path", description: "victim-webhook" },
  });
  const delivery = await target.call("POST", `/webhooks/${webhook.body.id}/test`, { as });
  await target.sql`update webhook_deliveries set status = 'failed' where id = ${delivery.body.id}`;
  expect([stored.status, listed.status, invitation.status, delivery.status]).toEqual([202, 201, 201, 202]);
  const imported = await target.call("POST", "/products/import", {
    as,
    body: "id,sku,name,price,sellerId\nvictim-item,victim-sku,victim-name,98765,victim-seller\n",
    headers: { "content-type": "text/csv" },
  });
  expect(await deps.runNextImport({ holder: "victim", shouldStop: () => false })).toBe(1);
  await createProduct(target, tenant, "victim-stock", { quantity: 100 });
  const items = [{ productId: "victim-stock", quantity: 1 }];
  const customer = { customerName: "victim-customer", customerEmail: "victim-customer@example.com" };
  const order = await target.call("POST", "/orders", {
    as,
    json: { ...customer, groupId: "victim-group", items },
  });
  const purchase = await target.call("POST", "/purchases", {
    as: admin.token,
    json: { productId: "victim-stock" },
  });
  expect([order.status, purchase.status]).toEqual([202, 201]);
  const [letter] =
    await sql`update order_commands set state = 'dead', last_error = 'victim-error', finished_at = now()
    where tenant_id = ${tenant.tenantId} returning id`;
  const [key] = await sql`select id from api_keys where tenant_id = ${tenant.tenantId}`;
  const found = [
    stored.body.id,
    dead?.id,
    key?.id,
    admin.userId,
    invitation.body.id,
    tenant.tenantId,
    imported.body.importId,
    webhook.body.id,
    delivery.body.id,
  ];
  const bought = [order.body.id, letter?.id, purchase.body.id];
  const ids = [
    ...found,
    ...bought,
    "victim-product",
    "victim-user",
    "victim-session",
    "victim-seller",
    "victim-item",
  ];
  return { ...tenant, admin, ids, invitationToken: invitation.body.token };
}

/** A fingerprint of every row that a tenant has, table by table. */
export async function fingerprint({ sql }: Target, tenantId: string): Promise<Record<string, string>> {
  const tables = await sql<{ name: string }[]>`
    select c.table_name as name from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'public' and c.column_name = 'tenant_id' and t.table_type = 'BASE TABLE' order by 1`;
  const prints: Record<string, string> = {};
  for (const { name } of tables) {
    const [row] = await sql`
      select count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' order by t::text)), '') as print
      from ${sql(name)} t where tenant_id = ${tenantId}`;
    prints[name] = row?.print;
  }
  const [row] = await sql`select md5(t::text) as print from tenants t where id = ${tenantId}`;
  return { ...prints, tenants: row?.print };
}
