/**
 * Production does not start with a secret that somebody could guess: it ends with one sentence that
 * names the variable.
 */
import { afterAll, expect, test } from "bun:test";
import { cleanup, runFootfall, testEnv } from "../harness.ts";

afterAll(cleanup);

const GOOD = "Zk7Qw2Lx9Rb4Nv6Tm1Yc8Hd3Jf5Ps0Ga-extra";

async function refusalOf(overrides: Record<string, string>): Promise<string> {
  const env = testEnv({ NODE_ENV: "production", JWT_SECRET: GOOD, ...overrides });
  const { exitCode, stdout, stderr } = await runFootfall(["serve"], env);
  expect(exitCode).not.toBe(0);
  return (stdout + stderr).trim();
}

test.each<[string, string, Record<string, string>]>([
  ["missing", "JWT_SECRET", { JWT_SECRET: "" }],
  ["short", "JWT_SECRET", { JWT_SECRET: GOOD.slice(0, 31) }],
  ["the default", "JWT_SECRET", { JWT_SECRET: "development-only-secret-not-for-production-use" }],
  ["well-known words", "JWT_SECRET", { JWT_SECRET: "changeme-changeme-changeme-changeme" }],
  ["one letter", "JWT_SECRET", { JWT_SECRET: "a".repeat(64) }],
  ["short", "JWT_SECRET_PREVIOUS", { JWT_SECRET_PREVIOUS: "abc123" }],
  [
    "well-known words",
    "JWT_SECRET_PREVIOUS",
    { JWT_SECRET_PREVIOUS: "secretsecretsecretsecretsecretsecret" },
  ],
  ["missing", "DATABASE_URL", { DATABASE_URL: "" }],
  ["short", "ADMIN_PASSWORD", { ADMIN_EMAIL: "a@example.com", ADMIN_PASSWORD: "1234567" }],
  ["the default", "ADMIN_PASSWORD", { ADMIN_EMAIL: "a@example.com", ADMIN_PASSWORD: "changeme" }],
  ["no range", "TRUSTED_PROXIES", { TRUSTED_PROXIES: "10.0.0.0/33" }],
  ["no limit", "RATE_LIMIT_AUTH", { RATE_LIMIT_AUTH: "0/1m" }],
])("%s: %s", async (_, name, overrides) => {
  const said = await refusalOf(overrides);
  expect(said.split("\n")).toHaveLength(1);
  expect(said).toMatch(new RegExp(`\\b${name}\\b[^_].*\\.$`));
  const value = overrides[name];
  if (value && /SECRET|PASSWORD/.test(name)) expect(said).not.toContain(value);
});
