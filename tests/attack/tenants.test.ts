/**
 * Another tenant's ids on every operation of the document, with its strongest credentials and every
 * false header.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { accessRule, type OperationId } from "../../src/core/access.ts";
import { type ContractDocument, fillPath, readDocument, sampleOf } from "../contract/document.ts";
import { createPerson, createTenant, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { ABSENT, createVictim, fingerprint, startTarget, type Target, type Victim } from "./target.ts";

let target: Target;
let victim: Victim;
let stranger: TestTenant;
let credentials: Record<string, string>;
let document: ContractDocument;
let before: Record<string, string>;

/**
 * Reads by an id of the shop's own choice: an id that this tenant has not seen has counts of zero.
 */
const EMPTY_FOR_UNKNOWN = new Set(["getProductTimeseries", "getUserSummary"]);
/** They end what the test needs, and take no id of another tenant. */
const PUBLIC = /^\/(auth\/(register|login|refresh|logout|password-reset.*)|health.*|ready|metrics)$/;

beforeAll(async () => {
  target = await startTarget();
  victim = await createVictim(target);
  stranger = await createTenant(target);
  const { token } = await createPerson(target, stranger.tenantId, "admin");
  credentials = { key: stranger.key, token };
  document = await readDocument(target.call);
  before = await fingerprint(target, victim.tenantId);
});
afterAll(cleanup);

const requestOf = (operation: ContractDocument["operations"][number], as: string) => ({
  as,
  ...(operation.body ? { json: sampleOf(document.schemas, operation.body) } : {}),
});
const required = (operation: ContractDocument["operations"][number]) => {
  const query = operation.parameters.filter((one) => one.in === "query" && one.required);
  return query.length === 0
    ? ""
    : `?${query.map((one) => `${one.name}=${sampleOf(document.schemas, one.schema)}`)}`;
};
const guarded = () => document.operations.filter(({ path }) => !PUBLIC.test(path));

const takesNoKey = (id: string) => {
  const rule = accessRule(id as OperationId);
  return "scope" in rule && rule.scope === null;
};

/** The answer without times and without the id that was asked for. */
function said(body: unknown, id: string): string {
  const moments = /^(requestId|asOf|lagMs|cache)$/;
  const text = JSON.stringify(body, (key, value) => (moments.test(key) ? undefined : value)) ?? "";
  return text.replaceAll(id, "<id>");
}

test("an id of another tenant is answered like one that nobody has", async () => {
  const withId = guarded().filter(({ path }) => path.includes("{"));
  expect(withId.length).toBeGreaterThanOrEqual(8);
  for (const operation of withId)
    for (const [kind, as] of Object.entries(credentials)) {
      if (kind === "key" && takesNoKey(operation.id)) continue;
      const ask = (id: string) =>
        target.call(operation.method, fillPath(operation.path, id), requestOf(operation, as));
      const absent = await ask(ABSENT);
      for (const id of victim.ids) {
        const { status, body } = await ask(id);
        const expected = EMPTY_FOR_UNKNOWN.has(operation.id) ? 200 : 404;
        expect(`${operation.id}: ${status} ${said(body, id)}`).toBe(
          `${operation.id}: ${expected} ${said(absent.body, ABSENT)}`,
        );
      }
    }
});

test("X-Tenant-Id of another tenant is a 403 on every operation", async () => {
  for (const operation of guarded())
    for (const [kind, as] of Object.entries(credentials))
      for (const tenantId of [victim.tenantId, ABSENT, "default", "' or true --", "*"]) {
        const request = requestOf(operation, as);
        const path = fillPath(operation.path, victim.ids[0] ?? "") + required(operation);
        const { status } = await target.call(operation.method, path, {
          ...request,
          headers: { "x-tenant-id": tenantId },
        });
        expect(`${operation.id} ${kind} ${tenantId}: ${status}`).toBe(
          `${operation.id} ${kind} ${tenantId}: 403`,
        );
      }
});

test("headers that lie about who and what change nothing", async () => {
  const lies = {
    "x-forwarded-for": "127.0.0.1",
    "cf-connecting-ip": "127.0.0.1",
    "true-client-ip": "127.0.0.1",
    "x-real-ip": "127.0.0.1",
    forwarded: "for=127.0.0.1",
    "x-http-method-override": "DELETE",
    "x-method-override": "DELETE",
    "x-original-url": `/api-keys/${victim.ids[2]}`,
    "x-rewrite-url": `/api-keys/${victim.ids[2]}`,
    "x-user-id": victim.admin.userId,
    "x-role": "admin",
    "x-forwarded-host": "evil.example",
  };
  for (const operation of guarded().filter(({ method }) => method === "GET")) {
    const path = fillPath(operation.path, ABSENT) + required(operation);
    const honest = await target.call("GET", path, { as: credentials.token });
    const lying = await target.call("GET", path, { as: credentials.token, headers: lies });
    expect(`${path}: ${lying.status} ${said(lying.body, ABSENT)}`).toBe(
      `${path}: ${honest.status} ${said(honest.body, ABSENT)}`,
    );
  }
  const headers = { "x-http-method-override": "DELETE" };
  const path = `/members/${victim.admin.userId}?_method=DELETE`;
  expect((await target.call("POST", path, { as: victim.key, json: {}, headers })).status).toBe(405);
});

test("an invitation, a sign-in and a foreign member are no way in", async () => {
  const json = { token: victim.invitationToken };
  expect((await target.call("POST", "/members/accept", { as: credentials.token, json })).status).toBe(404);
  const swapped = victim.invitationToken.replace(victim.tenantId, stranger.tenantId);
  for (const token of [swapped, `${victim.tenantId}.${ABSENT}.x`, "..", victim.invitationToken.slice(0, -1)])
    expect(
      (await target.call("POST", "/members/accept", { as: credentials.token, json: { token } })).status,
    ).toBe(404);
  const guest = await target.call("POST", "/auth/register", {
    json: {
      email: "stranger@example.com",
      password: "a stranger's password",
      invitationToken: victim.invitationToken,
    },
  });
  expect(guest.status).toBe(404);
  const [users] = await target.sql`select count(*)::int as n from users where email = 'stranger@example.com'`;
  expect(users?.n).toBe(0);
});

test("nothing of it has touched the victim, and the victim's texts are nowhere", async () => {
  // The cache lists the questions that the attackers asked themselves, with the ids that they
  // tried.
  const reads = guarded().filter(({ method, path }) => method === "GET" && path !== "/cache/keys");
  for (const operation of reads)
    for (const as of Object.values(credentials)) {
      const { body } = await target.call("GET", fillPath(operation.path, ABSENT) + required(operation), {
        as,
      });
      expect(JSON.stringify(body)).not.toMatch(/victim|98765/);
    }
  expect(await fingerprint(target, victim.tenantId)).toEqual(before);
});
