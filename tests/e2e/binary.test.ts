/**
 * The one file that people download: built as for a release, and run where there is nothing else.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import postgres from "postgres";
import { callOver, eventInput } from "../factories.ts";
import {
  cleanup,
  createTestDatabase,
  eventually,
  freePort,
  guarded,
  onCleanup,
  startRedis,
  temporaryDirectory,
  trackProcess,
} from "../harness.ts";

const ROOT = join(import.meta.dir, "../..");
const ADMIN = { email: "admin@example.com", password: "a long enough password" };
const DATABASE = `binary_${crypto.randomUUID().slice(0, 8)}`;

let binary: string;
let env: Record<string, string>;
let url: string;

beforeAll(async () => {
  binary = join(temporaryDirectory("binary"), "footfall");
  const build = Bun.spawnSync([process.execPath, "run", "build", `--outfile=${binary}`], { cwd: ROOT });
  if (build.exitCode !== 0) throw new Error(`the build failed\n${build.stdout}${build.stderr}`);

  // An empty database: this is about the first start on a new machine.
  const template = await createTestDatabase();
  const sql = postgres(template.url, { max: 1, onnotice: () => {} });
  await sql`create database ${sql(DATABASE)}`.simple();
  onCleanup(async () => {
    await sql`drop database ${sql(DATABASE)} with (force)`.simple();
    await sql.end();
  });
  const database = new URL(template.url);
  database.pathname = `/${DATABASE}`;
  const port = freePort();
  url = `http://127.0.0.1:${port}`;
  env = {
    NODE_ENV: "production",
    DATABASE_URL: database.href,
    REDIS_URL: (await startRedis()).url,
    JWT_SECRET: Buffer.from(crypto.getRandomValues(new Uint8Array(48))).toString("base64"),
    HOST: "127.0.0.1",
    PORT: String(port),
    ADMIN_EMAIL: ADMIN.email,
    ADMIN_PASSWORD: ADMIN.password,
  };
}, 120_000);
afterAll(cleanup);

/** Starts the binary in an empty directory, with only this environment. */
function start(command: string[], environment = env) {
  const child = Bun.spawn(guarded([binary, ...command]), {
    cwd: temporaryDirectory("empty"),
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  trackProcess(child);
  return child;
}

async function run(command: string[], environment = env) {
  const child = start(command, environment);
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

test("says its version and its commands without any configuration", async () => {
  const version = await run(["--version"], {});
  expect(version).toEqual({ exitCode: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: "" });
  const help = await run(["--help"], {});
  for (const command of ["up", "serve", "worker", "migrate", "verify", "rebuild", "admin"])
    expect(help.stdout).toMatch(new RegExp(`^ {2}${command}\\b`, "m"));
});

test("names what is missing, in one line", async () => {
  for (const [environment, name] of [
    [{}, "DATABASE_URL"],
    [{ ...env, REDIS_URL: "" }, "REDIS_URL"],
    [{ ...env, JWT_SECRET: "" }, "JWT_SECRET"],
  ] as const) {
    const { exitCode, stderr } = await run(["serve"], environment);
    expect(exitCode).toBe(1);
    expect(stderr).toStartWith(`footfall: ${name} is not set`);
    expect(stderr.trim().split("\n").length).toBe(1);
  }
});

test("says what to do about a database that is not migrated, or not there", async () => {
  expect((await run(["verify"])).stderr).toContain("footfall migrate");
  const absent = { ...env, DATABASE_URL: env.DATABASE_URL?.replace(DATABASE, "absent") ?? "" };
  expect((await run(["verify"], absent)).stderr).toContain("createdb");
  const nobody = { ...env, DATABASE_URL: "postgres://footfall@127.0.0.1:1/absent" };
  const { exitCode, stderr } = await run(["migrate"], nobody);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("Postgres does not answer");
});

test("migrates, twice", async () => {
  for (const _ of [1, 2]) {
    const { exitCode, stdout, stderr } = await run(["migrate"]);
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: 0,
      stdout: "The database is up to date.\n",
      stderr: "",
    });
  }
});

test("goes from `up` over sign-in, key, event, rollup and docs to a clean stop", async () => {
  const up = start(["up"]);
  const output = new Response(up.stdout).text();
  const call = callOver(url);
  await eventually(async () => (await call("GET", "/ready")).status === 200, { timeoutMs: 20_000 });

  const session = await call("POST", "/auth/login", { json: ADMIN });
  expect(session.body.user).toMatchObject({ role: "admin", email: ADMIN.email });
  const made = await call("POST", "/api-keys", { as: session.body.token, json: { name: "shop" } });
  expect(made.status).toBe(201);
  const as: string = made.body.key;

  const sale = eventInput({ type: "purchase", properties: { quantity: 3, price: 9.99 } });
  const sent = await call("POST", "/events", { as, json: sale });
  expect(sent.status).toBe(202);
  expect((await call("GET", `/events/${sent.body.id}`, { as })).body.type).toBe("purchase");
  const bulk = Bun.gzipSync(Buffer.from(`${JSON.stringify(eventInput())}\n`.repeat(50)));
  const headers = { "content-type": "application/x-ndjson", "content-encoding": "gzip" };
  expect(
    (await call("POST", "/api/events/bulk", { as, body: new Uint8Array(bulk), headers })).body.inserted,
  ).toBe(50);
  await eventually(async () => {
    const { body } = await call("GET", "/analytics/summary?days=2", { as });
    expect(body.totals).toMatchObject({ events: 51, views: 50, purchases: 1, units: 3, revenue: 29.97 });
  });

  const docs = await call("GET", "/docs");
  const assets = [...docs.body.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? "");
  expect(assets.length).toBe(3);
  for (const asset of assets) {
    const { status, body } = await call("GET", asset);
    expect([status, body.length > (asset.endsWith("boot.js") ? 50 : 50_000)]).toEqual([200, true]);
  }
  expect((await call("GET", "/openapi.json")).body.openapi).toBe("3.1.0");
  expect((await call("GET", "/openapi.yaml")).status).toBe(200);
  expect((await call("GET", "/metrics")).body).toContain("footfall_events_ingested_total");

  const verified = await run(["verify", "--tenant", "default"]);
  expect(verified).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^default: clean, \d+ rows compared\.\n$/),
  });

  up.kill("SIGTERM");
  expect(await up.exited).toBe(0);
  const lines = (await output).trim().split("\n");
  for (const line of lines) expect(JSON.parse(line)).toHaveProperty("level");
  expect(await output).not.toContain(as);
  expect(await output).not.toContain(ADMIN.password);
  expect(await new Response(up.stderr).text()).toBe("");
}, 60_000);

test("a port that is taken is a sentence, not a trace", async () => {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  const { exitCode, stderr } = await run(["serve"], { ...env, PORT: String(server.port) });
  server.stop(true);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^footfall: .*Set PORT to a free one\.\n$/);
});
