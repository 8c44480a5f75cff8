/**
 * Every operation of the table in core/access.ts, called with every kind of credential: the table
 * alone decides who may, nobody else gets past 401 or 403, and the check comes before any input is
 * read.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ACCESS, type AccessRule, type OperationId, type PublicRule } from "../../src/core/access.ts";
import { type Role, SCOPES, type Scope } from "../../src/core/principal.ts";
import { createKey, createPerson, createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

interface Operation {
  method: string;
  path: string;
}

const ROLES: Role[] = ["admin", "seller", "analyst", "customer"];
const METHODS = ["get", "post", "put", "patch", "delete"];

let api: TestApi;
const operations = new Map<string, Operation>();
const tokens = new Map<Role, string>();
const keys = new Map<Scope, string>();

beforeAll(async () => {
  api = await createTestApi();
  const { tenantId } = await createTenant(api);
  for (const role of ROLES) tokens.set(role, (await createPerson(api, tenantId, role)).token);
  for (const scope of SCOPES) keys.set(scope, await createKey(api, tenantId, [scope]));
  const { body } = await api.call("GET", "/openapi.json");
  for (const [path, item] of Object.entries<Record<string, { operationId: string }>>(body.paths))
    for (const method of METHODS) {
      const operation = item[method];
      if (operation)
        operations.set(operation.operationId, { method: method.toUpperCase(), path: fill(path) });
    }
});
afterAll(cleanup);

/** An id that nothing has, wherever the path takes one. */
function fill(path: string): string {
  return path.replaceAll(/\{\w+\}/g, "00000000-0000-7000-8000-000000000000");
}

/**
 * The status of a call without useful input: 401 and 403 mean refused, anything else got past the
 * check.
 */
async function statusFor(operation: Operation, as: string | undefined): Promise<number> {
  const { method, path } = operation;
  const body = method === "GET" ? undefined : "rubbish";
  return (await api.call(method, path, { as, body })).status;
}

function outcome(status: number): "unauthenticated" | "forbidden" | "allowed" {
  expect(status).toBeLessThan(500);
  return status === 401 ? "unauthenticated" : status === 403 ? "forbidden" : "allowed";
}

test("the document and the table know the same operations", () => {
  expect([...operations.keys()].sort()).toEqual(Object.keys(ACCESS).sort());
});

const guarded = Object.entries<AccessRule | PublicRule>(ACCESS).filter(
  (entry): entry is [OperationId, AccessRule] => !("public" in entry[1]),
);

describe.each(guarded)("%s", (name, rule) => {
  const operation = () => operations.get(name) ?? { method: "GET", path: "/absent" };

  test("needs a credential", async () => {
    expect(outcome(await statusFor(operation(), undefined))).toBe("unauthenticated");
    expect(outcome(await statusFor(operation(), "ffs_unknown"))).toBe("unauthenticated");
  });

  test("follows the table for every role", async () => {
    for (const [role, token] of tokens) {
      const expected = rule.roles.includes(role) ? "allowed" : "forbidden";
      expect(`${role}: ${outcome(await statusFor(operation(), token))}`).toBe(`${role}: ${expected}`);
    }
  });

  test("follows the table for every scope", async () => {
    for (const [scope, key] of keys) {
      const may = rule.scope !== null && (scope === rule.scope || scope === "admin");
      expect(`${scope}: ${outcome(await statusFor(operation(), key))}`).toBe(
        `${scope}: ${may ? "allowed" : "forbidden"}`,
      );
    }
  });
});

test("public operations need none", async () => {
  for (const [name, rule] of Object.entries(ACCESS)) {
    const operation = operations.get(name);
    if (!("public" in rule) || !operation) continue;
    expect(`${name}: ${outcome(await statusFor(operation, undefined))}`).toBe(`${name}: allowed`);
  }
});

test("skipCache is for admins, analysts and keys", async () => {
  const statuses = new Map<string, number>();
  for (const [role, as] of tokens)
    statuses.set(role, (await api.call("GET", "/analytics/users/me/summary?skipCache=true", { as })).status);
  expect(Object.fromEntries(statuses)).toEqual({ admin: 200, analyst: 200, seller: 403, customer: 403 });
});
