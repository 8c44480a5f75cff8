import { expect } from "bun:test";
import postgres, { type Sql } from "postgres";
import { createApp } from "../src/app.ts";
import { type Config, parseConfig } from "../src/config.ts";
import { newId } from "../src/core/ids.ts";
import { operatorContext, type Role, type Scope } from "../src/core/principal.ts";
import { closeDeps, createDeps, type Deps } from "../src/deps.ts";
import { createAccessTokens } from "../src/features/identity/index.ts";
import { waitUntilReady } from "../src/redis/client.ts";
import { createTestDatabase, onCleanup, startRedis, type TestRedis, testEnv } from "./harness.ts";

/** The application in this process, with a database and a Redis of the test file's own. */
export interface TestApi {
  config: Config;
  deps: Deps;
  app: ReturnType<typeof createApp>;
  /** Straight to the database, past everything that the application does. */
  sql: Sql;
  redis: TestRedis;
  /** For processes that share the stores of this application. */
  env: Record<string, string>;
  call(method: string, path: string, request?: CallRequest): Promise<Answer>;
}

export interface CallRequest {
  /** A token or an API key, sent as a bearer. */
  as?: string;
  json?: unknown;
  body?: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  headers?: Record<string, string>;
}

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: expect() says when something is absent
  body: any;
}

export async function createTestApi(overrides: Record<string, string> = {}): Promise<TestApi> {
  const [database, redis] = await Promise.all([createTestDatabase(), startRedis()]);
  const env = testEnv({
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    LOG_LEVEL: "silent",
    ...overrides,
  });
  const config = parseConfig(env);
  const deps = createTestDeps(config);
  const sql = postgres(database.url, { max: 4, onnotice: () => {} });
  onCleanup(() => sql.end({ timeout: 5 }));
  await waitUntilReady(deps.redis, 5_000);
  const app = createApp(deps, { ...config, version: "test" });
  const call: TestApi["call"] = async (method, path, request = {}) =>
    readAnswer(await app.request(path, toRequestInit(method, request)));
  return { config, deps, app, sql, redis, env, call };
}

/** Deps beside the application's, as of another process. Closed by cleanup(). */
export function createTestDeps(config: Config): Deps {
  const deps = createDeps(config, "test");
  onCleanup(() => closeDeps(deps, 5_000));
  return deps;
}

/** `call` for a server behind a socket. */
export function callOver(url: string): TestApi["call"] {
  return async (method, path, request = {}) =>
    readAnswer(await fetch(url + path, toRequestInit(method, request)));
}

function toRequestInit(method: string, { as, json, body, headers = {} }: CallRequest): RequestInit {
  return {
    method,
    body: json === undefined ? body : JSON.stringify(json),
    redirect: "manual",
    headers: {
      ...(as === undefined ? {} : { authorization: `Bearer ${as}` }),
      ...(json === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
  };
}

/** Reads an answer, and checks of every error that it is a problem of the contract's shape. */
async function readAnswer(response: Response): Promise<Answer> {
  const text = await readBody(response);
  const isJson = /[/+]json/.test(response.headers.get("content-type") ?? "");
  const answer = {
    status: response.status,
    headers: response.headers,
    body: isJson && text !== "" ? JSON.parse(text) : text,
  };
  // Health and readiness answer 503 with the same document as 200: probes and people read it.
  const isProbe = answer.status === 503 && ("ready" in answer.body || "services" in answer.body);
  if (answer.status >= 400 && !isProbe) expectProblem(answer);
  return answer;
}

/** The whole body; nothing for an event stream, which has no end. */
export async function readBody(response: Response): Promise<string> {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return response.text();
  await response.body?.cancel();
  return "";
}

/** zod's own words, where core/explain-issue.ts replaces none. */
export const WORDS_OF_ZOD =
  /^(Invalid|Too (small|big)|Unrecognized|Required|Expected)\b|expected \w+, received/;

/** RFC 9457, section 1 of the contract: the one shape of every error. */
export function expectProblem({ status, headers, body }: Answer): void {
  expect(headers.get("content-type")).toBe("application/problem+json");
  const { errors, ...rest } = body;
  expect(rest).toEqual({
    type: expect.any(String),
    title: expect.any(String),
    status,
    detail: expect.any(String),
    code: expect.stringMatching(/^[a-z_]+$/),
    requestId: expect.stringMatching(/^[\w.:-]+$/),
  });
  expect(headers.get("x-request-id")).toBe(body.requestId);
  for (const error of errors ?? [])
    expect(error).toEqual({
      path: expect.any(String),
      code: expect.any(String),
      message: expect.not.stringMatching(WORDS_OF_ZOD),
    });
  if (status === 401) expect(headers.get("www-authenticate")).toBe("Bearer");
  if (status === 429 || status === 503) expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
}

export interface TestTenant {
  tenantId: string;
  slug: string;
  /** A secret key with every scope. */
  key: string;
}

let tenants = 0;

/** A tenant of the test's own; `settings` are columns of its row. */
export async function createTenant(
  { deps, sql }: Pick<TestApi, "deps" | "sql">,
  settings: { time_zone?: string; event_retention_days?: number } = {},
): Promise<TestTenant> {
  tenants += 1;
  const slug = `shop-${tenants}-${newId().slice(-6)}`;
  const tenantId = await deps.identity.ensureTenant(slug, `Shop ${tenants}`);
  if (Object.keys(settings).length > 0) await sql`update tenants set ${sql(settings)} where id = ${tenantId}`;
  return { tenantId, slug, key: await createKey({ deps }, tenantId, ["admin"]) };
}

export async function createKey(
  { deps }: Pick<TestApi, "deps">,
  tenantId: string,
  scopes: Scope[],
): Promise<string> {
  return (
    await deps.apiKeys.createApiKey(operatorContext(tenantId), { name: "test", kind: "secret", scopes })
  ).key;
}

/**
 * A person with a role in the tenant (a seller: of `seller-1` by default), and a token for it. The
 * account has no usable password.
 */
export async function createPerson(
  { config, sql }: Pick<TestApi, "config" | "sql">,
  tenantId: string,
  role: Role,
  sellerId: string | null = role === "seller" ? "seller-1" : null,
): Promise<{ userId: string; token: string }> {
  const userId = newId();
  await sql`insert into users (id, email, password_hash) values (${userId}, ${`${userId}@example.com`}, 'none')`;
  await sql`insert into memberships (tenant_id, user_id, role, seller_id)
    values (${tenantId}, ${userId}, ${role}, ${sellerId})`;
  return {
    userId,
    token: await createAccessTokens(config.jwtSecret, null).sign({
      userId,
      tenantId,
      role,
      sessionVersion: 0,
    }),
  };
}

/** A valid event. */
export function eventInput(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return { type: "view", productId: "p-1", anonymousId: "visitor-1", ...overrides };
}

/** Everything that ingest has stored for a tenant, counted in the tables. */
export async function countStored({ sql }: Pick<TestApi, "sql">, tenantId: string) {
  const [row] = await sql<{ events: number; batches: number; keys: number; stored: number }[]>`
    select (select count(*)::int from events where tenant_id = ${tenantId}) as events,
      (select count(*)::int from event_batches where tenant_id = ${tenantId}) as batches,
      (select count(*)::int from event_keys where tenant_id = ${tenantId}) as keys,
      (select coalesce(sum(stored), 0)::int from event_batches where tenant_id = ${tenantId}) as stored`;
  if (!row) throw new Error("no counts");
  return row;
}

/** Rolls up what waits, as the sweeper does but without its delay; returns how many batches. */
export async function rollUpAll({ deps }: Pick<TestApi, "deps">): Promise<number> {
  let claimed = 0;
  for (;;) {
    const waiting = await deps.rollups.findOverdue(-1_000, 200);
    if (waiting.length === 0) return claimed;
    const done = await deps.rollups.rollUp(waiting);
    await deps.invalidator.invalidate(waiting);
    if (done === 0) return claimed;
    claimed += done;
  }
}

export async function gzip(text: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(Bun.gzipSync(Buffer.from(text)));
}

/**
 * Deadlocks in this file's database so far. Idle sessions don't report their statistics, so those
 * of `pools` are asked.
 */
export async function countDeadlocks({ sql }: Pick<TestApi, "sql">, pools: readonly Sql[]): Promise<number> {
  for (const pool of pools) {
    // One query for each session of a pool, at once. Postgres before 15 lacks this function and
    // reports at the end.
    const ask = () => pool`select pg_stat_force_next_flush(), pg_sleep(0.05)`.catch(() => {});
    await Promise.all(Array.from({ length: pool.options.max }, ask));
    await Promise.all(Array.from({ length: pool.options.max }, () => pool`select 1`));
  }
  const [row] =
    await sql`select deadlocks::int as n from pg_stat_database where datname = current_database()`;
  return row?.n;
}
