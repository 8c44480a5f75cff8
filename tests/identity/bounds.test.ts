/** Strangers can't fill memory or processors: queues and maps are bounded. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { AppError } from "../../src/core/errors.ts";
import { createAccessTokens, createCredentialVerifier } from "../../src/features/identity/index.ts";
import { hashPassword, verifyPassword } from "../../src/features/identity/passwords/hashing.ts";
import { createLocalRateCounter } from "../../src/redis/rate-limit.ts";
import { createPerson, createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi();
});
afterAll(cleanup);

test("two passwords are hashed at once and twenty wait; who comes then is told to come back", async () => {
  const work = Array.from({ length: 30 }, (_, n) =>
    n % 2 ? hashPassword("correct horse battery") : verifyPassword(null, "correct horse battery"),
  );
  const outcomes = await Promise.allSettled(work);
  const refused = outcomes.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
  expect(outcomes.slice(0, 22).every(({ status }) => status === "fulfilled")).toBe(true);
  expect(refused.length).toBe(8);
  for (const error of refused) {
    expect(error).toBeInstanceOf(AppError);
    expect(error.status).toBe(503);
  }
  expect(await verifyPassword(await hashPassword("again"), "again")).toBe(true);
});

test("a process counts 50,000 keys by itself while Redis is away, and forgets the oldest beyond", async () => {
  const count = createLocalRateCounter();
  const policy = { limit: 1, windowMs: 3_600_000 };
  const isAdmitted = async (key: string) => (await count(key, policy)).admitted;
  expect(await isAdmitted("first")).toBe(true);
  for (let n = 1; n < 50_000; n += 1) await isAdmitted(`key ${n}`);
  expect(await isAdmitted("first")).toBe(false);
  // The longest unused one goes, and "first" was asked for a moment ago.
  expect(await isAdmitted("one more")).toBe(true);
  expect(await isAdmitted("first")).toBe(false);
  expect(await isAdmitted("key 1")).toBe(true);
});

test("only so many checked credentials are remembered, the latest ones", async () => {
  const { config, deps, sql } = api;
  const tokens = createAccessTokens(config.jwtSecret, null);
  const verify = createCredentialVerifier(deps.db, tokens, deps.readGuard, 3);
  const { tenantId } = await createTenant(api);
  const people = await Promise.all(Array.from({ length: 4 }, () => createPerson(api, tenantId, "admin")));
  for (const { token } of people) await verify(token, undefined, false);
  await sql`delete from memberships where tenant_id = ${tenantId}`;
  // Remembered ones are not checked against the memberships, which would refuse them.
  const answers = people.map(({ token }) => verify(token, undefined, false));
  expect(answers.map((answer) => answer instanceof Promise)).toEqual([true, false, false, false]);
  await expect(answers[0] as Promise<unknown>).rejects.toThrow("does not belong to the tenant");
});
