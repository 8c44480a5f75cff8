/** The endpoints themselves: what admins create, change, see and don't see. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createWebhook, deliverAll, deliveriesOf, enqueue, startReceiver, webhookOf } from "./stage.ts";

let api: TestApi;
let tenant: TestTenant;

/** Public, and never connected to by these tests. */
const URL = "https://1.1.1.1/hooks";
const SECRET = /^whsec_[A-Za-z0-9+/]{43}=$/;

beforeAll(async () => {
  api = await createTestApi({ WEBHOOK_ALLOW_PRIVATE: "true" });
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const call = (method: string, path: string, json?: object) =>
  api.call(method, path, { as: tenant.key, ...(json === undefined ? {} : { json }) });

test("a webhook is made, read, changed and deleted; its secret is shown once", async () => {
  const json = {
    url: `${URL}?a=b#fragment`,
    topics: ["order.created", "product.lowstock", "order.created"],
    description: " Stock ",
  };
  const { status, body } = await call("POST", "/webhooks", json);
  expect(status).toBe(201);
  const { secret, ...webhook } = body;
  expect(secret).toMatch(SECRET);
  expect(webhook).toEqual({
    id: expect.any(String),
    url: `${URL}?a=b`,
    description: "Stock",
    topics: ["order.created", "product.lowstock"],
    status: "enabled",
    disabledReason: null,
    failingSince: null,
    previousSecretUntil: null,
    createdAt: expect.any(String),
    updatedAt: expect.any(String),
  });
  expect((await call("GET", `/webhooks/${webhook.id}`)).body).toEqual(webhook);
  expect((await call("GET", "/webhooks")).body).toEqual({ items: [webhook], nextCursor: null });

  const changed = await call("PATCH", `/webhooks/${webhook.id}`, { topics: [], description: null });
  expect(changed.body).toEqual({ ...webhook, topics: [], description: null, updatedAt: expect.any(String) });
  const off = await call("PATCH", `/webhooks/${webhook.id}`, { status: "disabled" });
  expect(off.body).toMatchObject({ status: "disabled", disabledReason: "manual" });
  const on = await call("PATCH", `/webhooks/${webhook.id}`, { status: "enabled" });
  expect(on.body).toMatchObject({ status: "enabled", disabledReason: null });

  expect((await call("DELETE", `/webhooks/${webhook.id}`)).status).toBe(204);
  for (const [method, path] of [
    ["GET", ""],
    ["DELETE", ""],
    ["PATCH", ""],
    ["POST", "/rotate-secret"],
    ["POST", "/test"],
    ["GET", "/deliveries"],
  ])
    expect(
      (await call(method ?? "", `/webhooks/${webhook.id}${path}`, method === "PATCH" ? {} : undefined))
        .status,
    ).toBe(404);
});

test("bad input is a 400 that names the field", async () => {
  const { id } = await createWebhook(api, tenant, URL);
  for (const [json, path] of [
    [{}, "url"],
    [{ url: "not a url" }, "url"],
    [{ url: "ftp://1.1.1.1/" }, "url"],
    [{ url: "https://user@1.1.1.1/" }, "url"],
    [{ url: `https://1.1.1.1/${"a".repeat(2_048)}` }, "url"],
    [{ url: URL, topics: ["everything"] }, "topics.0"],
    [{ url: URL, description: "a\0b" }, "description"],
    [{ url: URL, secret: "whsec_mine" }, "secret"],
    [{ url: URL, tenantId: tenant.tenantId }, "tenantId"],
  ] as const) {
    const { status, body } = await call("POST", "/webhooks", json);
    expect(`${JSON.stringify(json).slice(0, 60)} ${status} ${body.errors?.[0]?.path}`).toBe(
      `${JSON.stringify(json).slice(0, 60)} 400 ${path}`,
    );
  }
  expect((await call("PATCH", `/webhooks/${id}`, { status: "paused" })).status).toBe(400);
  expect((await call("GET", `/webhooks/${id}/deliveries?status=lost`)).status).toBe(400);
  expect((await call("GET", "/webhooks?cursor=e30")).status).toBe(400);
});

test("every page size shows the same list", async () => {
  const made: string[] = [];
  for (let n = 0; n < 5; n += 1) made.unshift((await createWebhook(api, tenant, URL)).id);
  for (const limit of [1, 2, 5, 100]) {
    const seen: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const query: string = cursor === "" ? "" : `&cursor=${cursor}`;
      const { body } = await call("GET", `/webhooks?limit=${limit}${query}`);
      seen.push(...body.items.map((one: { id: string }) => one.id));
      cursor = body.nextCursor;
    }
    expect(seen).toEqual(made);
  }
});

test("fifty are the most, also when all ask at once", async () => {
  const answers = await Promise.all(
    Array.from({ length: 60 }, () => call("POST", "/webhooks", { url: URL })),
  );
  const statuses = answers.map(({ status }) => status).sort();
  expect(statuses).toEqual([...Array(50).fill(201), ...Array(10).fill(409)]);
});

test("the audit log tells of every change, and never a secret", async () => {
  const { id, secret } = await createWebhook(api, tenant, URL);
  const second = (await call("POST", `/webhooks/${id}/rotate-secret`)).body.secret;
  expect(second).toMatch(SECRET);
  expect(second).not.toBe(secret);
  await call("PATCH", `/webhooks/${id}`, { description: "changed" });
  await call("DELETE", `/webhooks/${id}`);
  const { body } = await call("GET", "/audit");
  const mine = body.items.filter((one: { target: string }) => one.target === id);
  expect(mine.map((one: { action: string }) => one.action)).toEqual([
    "webhook.deleted",
    "webhook.updated",
    "webhook.secret_rotated",
    "webhook.created",
  ]);
  expect(JSON.stringify(body)).not.toContain("whsec_");
  const [{ before, after }] = mine.slice(1);
  expect([before.description, after.description]).toEqual([null, "changed"]);
});

test("another tenant's webhooks and deliveries are not there", async () => {
  const receiver = startReceiver();
  const webhook = await createWebhook(api, tenant, receiver.url);
  await enqueue(api, tenant.tenantId);
  await deliverAll(api);
  const [delivery] = await deliveriesOf(api, tenant, webhook);
  const stranger = await createTenant(api);
  const own = await createWebhook(api, stranger, URL);
  const ask = async (method: string, path: string, json?: object) =>
    (await api.call(method, path, { as: stranger.key, ...(json ? { json } : {}) })).status;
  expect([
    await ask("GET", `/webhooks/${webhook.id}`),
    await ask("PATCH", `/webhooks/${webhook.id}`, { status: "disabled" }),
    await ask("DELETE", `/webhooks/${webhook.id}`),
    await ask("POST", `/webhooks/${webhook.id}/rotate-secret`),
    await ask("POST", `/webhooks/${webhook.id}/test`),
    await ask("GET", `/webhooks/${webhook.id}/deliveries`),
    await ask("POST", `/webhooks/${webhook.id}/deliveries/${delivery.id}/replay`),
    await ask("POST", `/webhooks/${own.id}/deliveries/${delivery.id}/replay`),
  ]).toEqual(Array(8).fill(404));
  expect(await webhookOf(api, tenant, webhook)).toMatchObject({
    status: "enabled",
    previousSecretUntil: null,
  });
  // Nor do its events reach it.
  expect(await deliveriesOf(api, stranger, own)).toEqual([]);
  expect((await enqueue(api, stranger.tenantId)).made).toBe(1);
  expect((await deliveriesOf(api, tenant, webhook)).length).toBe(1);
});
