/**
 * A lock that does not come free costs its own requests a 503, and delays nobody else's sign-in or
 * administration.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { retryRolledBack } from "../../src/db/failures.ts";
import { createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

test("four changes of a tenant whose row stays locked are refused while it is locked, and another tenant is served", async () => {
  const [stuck, other] = [await createTenant(api), await createTenant(api)];
  const json = { email: "a@example.com", password: "correct horse battery" };
  const { refreshToken } = (await api.call("POST", "/auth/register", { json })).body;
  await api.sql.begin(async (tx) => {
    await tx`select from tenants where id = ${stuck.tenantId} for update`;
    const changes = Array.from({ length: 4 }, () =>
      api.call("PATCH", "/tenants/current", { as: stuck.key, json: { name: "Stuck" } }),
    );
    const served = [
      await api.call("POST", "/api-keys", { as: other.key, json: { name: "served" } }),
      await api.call("POST", "/auth/refresh", { json: { refreshToken } }),
    ];
    expect(served.map(({ status }) => status)).toEqual([201, 200]);
    const refused = await Promise.all(changes);
    expect(refused.map(({ status }) => status)).toEqual(Array(4).fill(503));
    expect(refused.map(({ headers }) => headers.get("retry-after"))).toEqual(Array(4).fill("5"));
  });
  const change = await api.call("PATCH", "/tenants/current", { as: stuck.key, json: { name: "Free" } });
  expect(change.status).toBe(200);
}, 60_000);

test("a lock that did not come free is no reason to wait for it again", async () => {
  let tries = 0;
  const locked = async () => {
    tries += 1;
    throw Object.assign(new Error("canceling statement due to lock timeout"), { code: "55P03" });
  };
  await expect(retryRolledBack(locked)).rejects.toThrow("lock timeout");
  expect(tries).toBe(1);
});

test("requests' transactions are bounded, those of the command line are not", async () => {
  const names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
  const { transaction, transactions } = api.deps.db;
  const bounds = await transaction((tx) =>
    Promise.all(names.map(async (name) => (await tx`select current_setting(${name}) as value`)[0]?.value)),
  );
  expect(bounds).toEqual(["10s", "3s", "10s"]);
  expect(await transactions`select current_setting('statement_timeout') as value`).toMatchObject([
    { value: "0" },
  ]);
});
