/** Finding out who has an account, and exhausting the hashing of passwords. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Answer, callOver, createPerson, createTenant } from "../factories.ts";
import { cleanup, startServer } from "../harness.ts";
import { SLOW_MS, startTarget, type Target } from "./target.ts";

const PASSWORD = "correct horse battery";
const KNOWN = "known@example.com";

let target: Target;
let tenantId: string;
let admin: string;

beforeAll(async () => {
  target = await startTarget();
  ({ tenantId } = await createTenant(target));
  admin = (await createPerson(target, tenantId, "admin")).token;
  const json = { email: KNOWN, password: PASSWORD };
  expect((await target.call("POST", "/auth/register", { json })).status).toBe(201);
});
afterAll(cleanup);

const login = (json: object) => target.call("POST", "/auth/login", { json });

/** Everything that a client sees, except what differs with every request. */
function visible({ status, headers, body }: Answer): string {
  const { requestId, ...rest } = body;
  const names = [...headers.keys()].filter((name) => name !== "x-request-id" && name !== "date").sort();
  return JSON.stringify({ status, rest, headers: names.map((name) => [name, headers.get(name)]) });
}

test("a known and an unknown e-mail get the same answer, to the letter", async () => {
  const answers = [
    await login({ email: KNOWN, password: "wrong password" }),
    await login({ email: "unknown@example.com", password: "wrong password" }),
    await login({ email: KNOWN.toUpperCase(), password: "wrong password" }),
    await login({ email: KNOWN, password: PASSWORD, tenantId }),
    await login({ email: "unknown@example.com", password: PASSWORD, tenantId }),
    await login({ email: KNOWN, password: "" }),
    await login({ email: "unknown@example.com", password: "" }),
  ];
  expect(answers[0]?.status).toBe(401);
  expect(new Set(answers.map(visible)).size).toBe(1);
});

test("and in the same time", async () => {
  const times: Record<"known" | "unknown", number[]> = { known: [], unknown: [] };
  const measure = async (kind: "known" | "unknown", email: string) => {
    // An address that is tried this often would be delayed.
    await target.sql`delete from sign_in_delays`;
    const startedAt = performance.now();
    await login({ email, password: "wrong password" });
    times[kind].push(performance.now() - startedAt);
  };
  for (let round = 0; round < 20; round += 1) {
    await measure("known", KNOWN);
    await measure("unknown", `unknown-${round}@example.com`);
  }
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1] ?? 0;
  const [known, unknown] = [median(times.known), median(times.unknown)];
  // Without the decoy hash an unknown e-mail is answered ten times as fast.
  expect(unknown / known).toBeGreaterThan(0.5);
  expect(unknown / known).toBeLessThan(2);
});

test("an invitation does not tell whether the e-mail has an account", async () => {
  const invite = (email: string) =>
    target.call("POST", "/members", { as: admin, json: { email, role: "customer" } });
  const [known, unknown] = [await invite(KNOWN), await invite("nobody@example.com")];
  expect(Object.keys(known.body)).toEqual(Object.keys(unknown.body));
  expect([known.status, known.body.role]).toEqual([unknown.status, unknown.body.role]);
});

/** Answers of all the sign-ins, and the slowest of another client's calls meanwhile. */
async function flood(url: string, password: string, as: string) {
  const call = callOver(url);
  const startedAt = performance.now();
  const attempts = Array.from({ length: 200 }, (_, n) =>
    call("POST", "/auth/login", { json: { email: `flood-${n}@example.com`, password } }),
  );
  let done = false;
  const all = Promise.all(attempts).finally(() => {
    done = true;
  });
  const others: number[] = [];
  while (!done) {
    const from = performance.now();
    const { status } = await call("GET", "/tenants/current", { as });
    expect(status).toBe(200);
    others.push(performance.now() - from);
    await Bun.sleep(5);
  }
  const statuses = (await all).map(({ status }) => status);
  return { statuses, tookMs: performance.now() - startedAt, slowestMs: Math.max(...others) };
}

const QUICK_MS = 1_000;

test("200 sign-ins at once with 1 MB passwords are refused, other routes stay quick", async () => {
  const { statuses, tookMs, slowestMs } = await flood(target.server.url, "x".repeat(1_000_000), admin);
  expect(new Set(statuses)).toEqual(new Set([413]));
  expect(tookMs).toBeLessThan(SLOW_MS);
  expect(slowestMs).toBeLessThan(QUICK_MS);
});

test("200 sign-ins at once with passwords of a legal length hash two at a time and are turned away in line", async () => {
  const { statuses, tookMs, slowestMs } = await flood(target.server.url, "x".repeat(128), admin);
  // 503 with Retry-After is the answer when twenty wait already; expectProblem has checked the
  // header.
  expect(statuses.every((status) => status === 401 || status === 503)).toBe(true);
  expect(statuses.filter((status) => status === 401).length).toBeGreaterThanOrEqual(20);
  expect(tookMs).toBeLessThan(SLOW_MS * 2);
  expect(slowestMs).toBeLessThan(QUICK_MS);
});

test("with the limit on, ten of them are looked at", async () => {
  const limited = await startServer({ ...target.env, RATE_LIMIT_AUTH: "10/1m" });
  const { statuses, slowestMs } = await flood(limited.url, "x".repeat(128), admin);
  expect(statuses.filter((status) => status === 401).length).toBeLessThanOrEqual(10);
  expect(statuses.filter((status) => status === 429).length).toBeGreaterThanOrEqual(190);
  expect(slowestMs).toBeLessThan(QUICK_MS);
});
