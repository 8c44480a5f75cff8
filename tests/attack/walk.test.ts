/**
 * The whole document, over a socket: every operation has a rule. It refuses no credential (401), a
 * foreign tenant's (403), every weaker role (403) and every key without the scope (403), before it
 * reads the input.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ACCESS, type AccessRule, type OperationId, type PublicRule } from "../../src/core/access.ts";
import { type Role, SCOPES } from "../../src/core/principal.ts";
import { fillPath, type Operation, readDocument } from "../contract/document.ts";
import { createKey, createPerson, createTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { ABSENT, startTarget, type Target } from "./target.ts";

const ROLES: Role[] = ["admin", "seller", "analyst", "customer"];

let target: Target;
let operations: Operation[];
let tenantId: string;
let foreignKey: string;
let foreignToken: string;
const tokens = new Map<Role, string>();
const keys = new Map<string, string>();

beforeAll(async () => {
  target = await startTarget();
  ({ operations } = await readDocument(target.call));
  ({ tenantId } = await createTenant(target));
  for (const role of ROLES) tokens.set(role, (await createPerson(target, tenantId, role)).token);
  for (const scope of SCOPES) keys.set(scope, await createKey(target, tenantId, [scope]));
  const foreign = await createTenant(target);
  foreignKey = foreign.key;
  foreignToken = (await createPerson(target, foreign.tenantId, "admin")).token;
});
afterAll(cleanup);

const ruleOf = ({ id }: Operation): AccessRule | PublicRule | undefined => ACCESS[id as OperationId];
const guarded = () =>
  operations.flatMap((operation) => {
    const rule = ruleOf(operation);
    return rule && !("public" in rule) ? [{ operation, rule }] : [];
  });

async function statusOf({ method, path }: Operation, as?: string, headers = {}): Promise<number> {
  const body = method === "GET" ? undefined : "rubbish";
  return (await target.call(method, fillPath(path, ABSENT), { as, body, headers })).status;
}

test("every operation has a rule, and says in the document what the rule says", () => {
  expect(operations.length).toBeGreaterThanOrEqual(34);
  for (const operation of operations) {
    const rule = ruleOf(operation);
    if (!rule) throw new Error(`${operation.id} has no rule in core/access.ts`);
    const byPerson = "public" in rule ? [] : [{ bearer: rule.roles.map((role) => `role:${role}`) }];
    const byKey = "public" in rule || rule.scope === null ? [] : [{ apiKey: [rule.scope] }];
    expect(operation.security).toEqual([...byPerson, ...byKey] as never);
    const refusals = [401, 403].filter((status) => operation.responses.has(status));
    if (!("public" in rule)) expect(refusals).toEqual([401, 403]);
  }
});

test("no credential, or none that is one, is a 401", async () => {
  for (const { operation } of guarded()) {
    const answers = [await statusOf(operation)];
    for (const authorization of ["Basic YWRtaW46YWRtaW4=", "Bearer", "Bearer null", "bearer ffs_", "Token x"])
      answers.push(await statusOf(operation, undefined, { authorization }));
    for (const header of ["x-api-key", "cookie"])
      answers.push(await statusOf(operation, undefined, { [header]: "token=ffs_unknown" }));
    expect(`${operation.id}: ${answers}`).toBe(`${operation.id}: ${answers.map(() => 401)}`);
  }
});

test("a foreign tenant's credential is a 403", async () => {
  for (const { operation } of guarded())
    for (const as of [foreignKey, foreignToken]) {
      const status = await statusOf(operation, as, { "x-tenant-id": tenantId });
      expect(`${operation.id}: ${status}`).toBe(`${operation.id}: 403`);
    }
});

test("a weaker role is a 403, a sufficient one gets past", async () => {
  for (const { operation, rule } of guarded())
    for (const [role, token] of tokens) {
      const refused = (await statusOf(operation, token)) === 403;
      expect(`${operation.id} ${role} ${refused}`).toBe(
        `${operation.id} ${role} ${!rule.roles.includes(role)}`,
      );
    }
});

test("a key without the scope is a 403, one with it gets past", async () => {
  for (const { operation, rule } of guarded())
    for (const [scope, key] of keys) {
      const may = rule.scope !== null && (scope === rule.scope || scope === "admin");
      const refused = (await statusOf(operation, key)) === 403;
      expect(`${operation.id} ${scope} ${refused}`).toBe(`${operation.id} ${scope} ${!may}`);
    }
});
