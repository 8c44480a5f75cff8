/**
 * The linters of `./dev check` over the OpenAPI document: Redocly and Spectral, the field's two
 * rulesets. It needs neither Postgres nor Redis, and the linters may not reach the network.
 */
import { join } from "node:path";
import { createApp } from "../../src/app.ts";
import { parseConfig } from "../../src/config.ts";
import { closeDeps, createDeps } from "../../src/deps.ts";
import { cleanup, temporaryDirectory, testEnv } from "../harness.ts";

const ROOT = join(import.meta.dir, "../..");

/** Nobody listens there, and nobody is asked: only the routes are needed. */
const NO_SERVERS = {
  DATABASE_URL: "postgres://footfall@127.0.0.1:1/footfall",
  REDIS_URL: "redis://127.0.0.1:1",
  LOG_LEVEL: "silent",
};

async function readDocument(): Promise<string> {
  const config = parseConfig(testEnv(NO_SERVERS));
  const deps = createDeps(config, "document");
  const response = await createApp(deps, { ...config, version: "0.0.0" }).request("/openapi.json");
  await closeDeps(deps, 1_000);
  if (!response.ok) throw new Error(await response.text());
  return response.text();
}

async function run(name: string, script: string, ...args: string[]): Promise<boolean> {
  const child = Bun.spawn([process.execPath, "--bun", join(ROOT, "node_modules", script), ...args], {
    cwd: ROOT,
    env: {
      PATH: process.env.PATH ?? "",
      NO_COLOR: "1",
      REDOCLY_TELEMETRY: "off",
      REDOCLY_SUPPRESS_UPDATE_NOTICE: "true",
    },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const clean = (await child.exited) === 0;
  console.log(clean ? `${name}: the document is clean.` : `${name}:\n${out}\n${err}`);
  return clean;
}

const file = join(temporaryDirectory("document"), "openapi.json");
await Bun.write(file, await readDocument());
const clean = await Promise.all([
  run("Redocly", "@redocly/cli/bin/cli.js", "lint", "--config", "redocly.yaml", "--max-problems=50", file),
  run(
    "Spectral",
    "@stoplight/spectral-cli/dist/index.js",
    "lint",
    "--ruleset",
    ".spectral.yaml",
    "--fail-severity=warn",
    file,
  ),
]);
await cleanup();
process.exit(clean.every(Boolean) ? 0 : 1);
