/**
 * What an attacker writes into every field of every operation of the document: SQL, Redis keys,
 * NUL, half characters, prototypes, fields that are not theirs to set. Checks the answers, and what
 * must not have happened.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Redis } from "ioredis";
import {
  type ContractDocument,
  fillPath,
  type Operation,
  readDocument,
  resolve,
  sampleOf,
} from "../contract/document.ts";
import { createPerson, createTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { ABSENT, createVictim, fingerprint, startTarget, type Target, type Victim } from "./target.ts";

let target: Target;
let attacker: { tenantId: string; token: string };
let victim: Victim;
let document: ContractDocument;
let before: Record<string, string>;
let redis: Redis;

beforeAll(async () => {
  target = await startTarget();
  const { tenantId } = await createTenant(target);
  attacker = { tenantId, token: (await createPerson(target, tenantId, "admin")).token };
  victim = await createVictim(target);
  document = await readDocument(target.call);
  before = await fingerprint(target, victim.tenantId);
  redis = new Redis(target.redis.url);
  await redis.set("{sentinel}:cache:kept", "kept");
});
afterAll(async () => {
  redis.disconnect();
  await cleanup();
});

const JSON_TYPE = { "content-type": "application/json" };
const withBody = () => document.operations.filter(({ body }) => body !== null);
const sample = (operation: Operation) =>
  sampleOf(document.schemas, operation.body) as Record<string, unknown>;

const send = (operation: Operation, body: string | Uint8Array<ArrayBuffer>, headers = JSON_TYPE) =>
  target.call(operation.method, fillPath(operation.path, ABSENT), { as: attacker.token, body, headers });

function expectDocumented(operation: Operation, status: number, what: string): void {
  const known = [...operation.responses.keys()];
  if (!known.includes(status))
    throw new Error(`${operation.id} answered ${status} to ${what}; documented are ${known}`);
}

/**
 * Texts with a meaning to the systems behind: Postgres, Redis, the log, a shell, a template, a
 * browser.
 */
const TEXTS = [
  "'; drop table users; --",
  "' or '1'='1",
  "1) union select password_hash from users --",
  "$1",
  "\\'; select pg_sleep(5); --",
  "%' and 1=cast((select version()) as int) --",
  "{sentinel}:cache:kept",
  "x}:auth:rate",
  "*\r\nDEL {sentinel}:cache:kept\r\n",
  "\0",
  "a\0b",
  "\ud800",
  "\udc00\ud800",
  "\u202e\u0000\uffff",
  "../../../../etc/passwd",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the attack
  "${jndi:ldap://127.0.0.1/x}",
  "{{7*7}}",
  "<script>alert(1)</script>",
  "__proto__",
  "constructor",
  'a\n{"level":"fatal"}',
  "x".repeat(5_000),
  "👩‍👩‍👧‍👦".repeat(20),
  "ﷺ".repeat(100),
];

/** Every copy of `value` in which one string has become `text`. */
function withText(value: unknown, text: string): unknown[] {
  if (typeof value === "string") return [text];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, child]) =>
    withText(child, text).map((changed) =>
      Array.isArray(value) ? Object.assign([...value], { [name]: changed }) : { ...value, [name]: changed },
    ),
  );
}

test("injections in every string of every body", async () => {
  for (const operation of withBody())
    for (const text of TEXTS)
      for (const body of withText(sample(operation), text)) {
        const { status } = await send(operation, JSON.stringify(body));
        expectDocumented(operation, status, JSON.stringify(body).slice(0, 300));
      }
}, 60_000);

test("injections in every path, query and header", async () => {
  for (const operation of document.operations) {
    const named = operation.parameters.filter((one) => one.in === "query").map((one) => one.name);
    for (const text of TEXTS) {
      const value = text.toWellFormed().slice(0, 2_000);
      const path = fillPath(operation.path, operation.path.includes("{") ? value : "");
      const paths = operation.path.includes("{") ? [path] : [];
      const query = [...named, "__proto__", "unknown"].map(
        (name) => `${fillPath(operation.path, ABSENT)}?${name}=${encodeURIComponent(value)}`,
      );
      for (const url of [...paths, ...query]) {
        const body = operation.body ? JSON.stringify(sample(operation)) : undefined;
        const headers = operation.body ? JSON_TYPE : {};
        const answer = await target.call(operation.method, url, { as: attacker.token, body, headers });
        expectDocumented(operation, answer.status, url);
      }
    }
  }
  for (const text of TEXTS.map((one) => one.replaceAll(/[^\x20-\x7e]/g, "~").slice(0, 2_000)))
    for (const name of ["idempotency-key", "x-request-id", "x-tenant-id", "authorization", "x-api-key"]) {
      const as = /auth|key$/.test(name) && name !== "idempotency-key" ? undefined : attacker.token;
      const json = { email: "guest@example.com", role: "customer" };
      const { status } = await target.call("POST", "/members", { as, json, headers: { [name]: text } });
      expect([201, 400, 401, 403, 422]).toContain(status);
    }
}, 60_000);

test("fields that are not theirs to set are refused by every body", async () => {
  const foreign = {
    role: "admin",
    tenantId: attacker.tenantId,
    price: 0,
    version: 99,
    createdAt: "2000-01-01T00:00:00.000Z",
    id: ABSENT,
    userId: ABSENT,
    sellerId: "victim-seller",
    isAdmin: true,
    passwordHash: "x",
    keyHash: "x",
    scopes: ["admin"],
    slug: "mine",
    constructor: { prototype: { isAdmin: true } },
  };
  for (const operation of withBody()) {
    const known = Object.keys(resolve(document.schemas, operation.body).properties);
    for (const [name, value] of Object.entries(foreign).filter(([one]) => !known.includes(one))) {
      const { status, body } = await send(operation, JSON.stringify({ ...sample(operation), [name]: value }));
      expect(`${operation.id} ${name}: ${status}`).toBe(`${operation.id} ${name}: 400`);
      expect(body.errors.map((error: { path: string }) => error.path)).toContain(name);
    }
  }
});

test("__proto__ is an unknown field like any other", async () => {
  for (const operation of withBody()) {
    const text = JSON.stringify(sample(operation));
    const polluted = text.replace(/^\{/, '{"__proto__":{"role":"admin","isAdmin":true},');
    const { status } = await send(operation, polluted);
    expect(`${operation.id}: ${status}`).toBe(`${operation.id}: 400`);
  }
  const polluted = await target.call("GET", "/auth/me?__proto__[role]=x", { as: victim.admin.token });
  expect(polluted.body.user.role).toBe("admin");
});

test("bodies that are no JSON, no UTF-8, too deep and too large", async () => {
  const deep = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;
  for (const operation of withBody()) {
    const text = JSON.stringify(sample(operation));
    const bytes = Buffer.from(text);
    const broken = new Uint8Array([...bytes.subarray(0, 3), 0xff, 0xc0, 0x80, ...bytes.subarray(3)]);
    const inText = new Uint8Array(Buffer.from(text.replace(/"([a-z@.-]+)"\}$/i, '"\xff"}'), "latin1"));
    const cases: Record<string, string | Uint8Array<ArrayBuffer>> = {
      "100,000 deep": deep(100_000),
      "a field 100,000 deep": text.replace(/\}$/, `,"deep":${deep(100_000)}}`),
      "a list 100,000 deep": "[".repeat(100_000) + "]".repeat(100_000),
      unclosed: "[".repeat(100_000),
      "invalid UTF-8": broken,
      "raw NUL": text.replace("{", "{\0"),
      empty: "",
      null: "null",
      list: `[${text}]`,
      "twice the field": "{".concat('"a":1,'.repeat(20_000), '"a":1}'),
    };
    if (inText.includes(0xff)) cases["invalid UTF-8 in a text"] = inText;
    for (const [name, body] of Object.entries(cases)) {
      const { status } = await send(operation, body);
      expect(`${operation.id} ${name}: ${status}`).toMatch(/: (400|413)$/);
    }
    const { status } = await send(operation, text.replace(/\}$/, `,"x":"${"x".repeat(5_000_000)}"}`));
    expect(status).toBe(413);
  }
}, 60_000);

test("a gzip bomb is refused, and gzip where it is not taken", async () => {
  const bomb = new Uint8Array(Bun.gzipSync(Buffer.alloc(100 * 1024 * 1024, "[")));
  const headers = { ...JSON_TYPE, "content-encoding": "gzip" };
  for (const operation of withBody()) {
    const { status } = await send(operation, bomb, headers);
    expect(`${operation.id}: ${status}`).toMatch(/: (400|413|415)$/);
  }
});

test("after all that everything is where it was", async () => {
  const tables = await target.sql`select count(*)::int as n from pg_tables where schemaname = 'public'`;
  expect(tables[0]?.n).toBeGreaterThan(10);
  expect(await redis.get("{sentinel}:cache:kept")).toBe("kept");
  for (const key of await redis.keys("*"))
    expect(key).toMatch(/^\{(sentinel|footfall:[a-z-]+|[0-9a-f-]{36})\}:/);
  expect(await fingerprint(target, victim.tenantId)).toEqual(before);
  const [admins] = await target.sql`
    select count(*)::int as n from memberships where role = 'admin' and tenant_id = ${attacker.tenantId}`;
  expect(admins?.n).toBe(1);
});
