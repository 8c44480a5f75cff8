/**
 * `./dev up` with its own servers: what it prints is true, and neither a kill nor damage ends in a
 * stack trace.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findPostgres } from "../../scripts/postgres/programs.ts";
import { commandLine } from "../../scripts/processes.ts";
import { findRedis } from "../../scripts/redis.ts";
import { cleanup, eventually, freePort, onCleanup } from "../harness.ts";
import { type Checkout, PATIENCE, readyCheckout, type Started, type Variables } from "./checkout.ts";

let checkout: Checkout;
let env: Variables;
let url: string;

beforeAll(async () => {
  checkout = await readyCheckout();
  const port = String(freePort());
  url = `http://127.0.0.1:${port}`;
  env = { PORT: port, PG_BIN_DIR: findPostgres()?.bin ?? "", REDIS_SERVER_BIN: findRedis() ?? "" };
  // Postgres may keep its data outside of the checkout.
  onCleanup(() => void checkout.dev(["clean"], env));
});
afterAll(cleanup);

const inState = (name: string) => join(checkout.root, ".footfall", name);
const pidIn = (name: string) => Number(readFileSync(inState(name), "utf8"));

async function startUp(): Promise<{ dev: Started; signIn: { email: string; password: string } }> {
  const dev = checkout.start(["up"], env);
  await dev.says("Ctrl-C stops everything.");
  const [, email = "", password = ""] = /Sign in +(\S+) {2}(\S+)\n/.exec(dev.output()) ?? [];
  return { dev, signIn: { email, password } };
}

async function logInStatus(signIn: object): Promise<number> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}/auth/login`, {
    method: "POST",
    headers,
    body: JSON.stringify(signIn),
  });
  return response.status;
}

/** Nothing of a former run works on this checkout any more. */
async function isQuiet(pids: number[]): Promise<void> {
  await eventually(() => pids.every((pid) => commandLine(pid) === ""), PATIENCE);
}

test("prints what is true, on loopback only; a second one is refused; after kill -9 it mends what is lost", async () => {
  const first = await startUp();
  expect(first.dev.output()).toContain(`API       ${url}\n`);
  expect(await logInStatus(first.signIn)).toBe(200);
  // A server that listens on every address answers here, too.
  await expect(fetch(url.replace("127.0.0.1", "127.0.0.2"))).rejects.toThrow();
  expect(statSync(inState("env")).mode & 0o777).toBe(0o600);

  const again = checkout.dev(["up"], env);
  expect(again.exitCode).toBe(1);
  expect(again.stderr).toBe(
    `error: ./dev up is already running in this checkout (process ${first.dev.pid}).\n`,
  );
  const help = checkout.dev(["footfall", "verify", "--tenant", "default"], env);
  expect(help).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("default: clean") });

  const parts = [pidIn("app.pid"), pidIn("redis.pid")];
  await first.dev.end("SIGKILL");
  await isQuiet(parts);

  unlinkSync(inState("env"));
  unlinkSync(inState("postgres.password"));
  for (const name of ["postgres.port", "redis.port", "app.pid", "seed.pid", "redis.pid", "servers"])
    writeFileSync(inState(name), "\0 no number\n");
  const second = await startUp();
  expect(second.signIn.password).not.toBe(first.signIn.password);
  expect(await logInStatus(second.signIn)).toBe(200);
  expect(await logInStatus(first.signIn)).toBe(401);
  expect(second.dev.output()).toContain("postgres.password is lost: giving the cluster a new password");

  const running = [pidIn("app.pid"), pidIn("redis.pid")];
  expect(await second.dev.end("SIGINT")).toBe(0);
  expect(second.dev.output()).toContain("==> stopping\n");
  await isQuiet(running);
}, 300_000);

test("a line of .footfall/env that is none is left out, and what is missing made anew", async () => {
  const kept = readFileSync(inState("env"), "utf8").replace(/^ADMIN_PASSWORD=.*$/m, "ADMIN_PASSWORD=short");
  writeFileSync(inState("env"), `${kept}; rm -rf\nLOG_LEVEL=warn\n`);
  const { dev, signIn } = await startUp();
  expect(dev.output()).toContain(".footfall/env was damaged, ADMIN_PASSWORD made anew, line 4 left out");
  expect(await logInStatus(signIn)).toBe(200);
  const env = readFileSync(inState("env"), "utf8");
  expect(env).toContain("LOG_LEVEL=warn\n");
  expect(env).toContain(/^JWT_SECRET=.*$/m.exec(kept)?.[0] ?? "no secret");
  expect(dev.output()).not.toContain('"msg":"api started"');
  expect(await dev.end("SIGTERM")).toBe(0);
}, 300_000);

test("data without a version is refused in one sentence, and not deleted", async () => {
  const home = Bun.file(inState("postgres.home"));
  const data = join((await home.exists()) ? (await home.text()).trim() : inState("postgres"), "data");
  rmSync(join(data, "PG_VERSION"));
  const { exitCode, stderr } = checkout.dev(["up"], env);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^error: \S+ is damaged \(PG_VERSION says no version\): \.\/dev clean [^\n]+\n$/);
  expect(statSync(join(data, "base")).isDirectory()).toBe(true);
  expect(checkout.dev(["clean"], env)).toMatchObject({ exitCode: 0 });
  await expect(Bun.file(join(data, "base")).stat()).rejects.toThrow();
}, 300_000);

test("a .footfall that is no folder, and a PORT that is none, are sentences", async () => {
  const { root, dev } = await readyCheckout();
  writeFileSync(join(root, ".footfall"), "");
  const { exitCode, stderr } = dev(["up"]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^error: \S+\/\.footfall cannot be made: [^\n]+\n$/);
  rmSync(join(root, ".footfall"));
  mkdirSync(join(root, ".footfall"));
  const taken = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  for (const [PORT, sentence] of [
    ["many", /^error: PORT is many: it must be a number from 1 to 65535\.\n$/],
    ["0", /^error: PORT is 0: /],
    [`${taken.port}`, /^error: port \d+ is taken: choose another one, for example PORT=\d+ \.\/dev up\.\n$/],
  ] as const)
    expect(dev(["up"], { PORT })).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(sentence) });
  await taken.stop(true);
}, 300_000);
