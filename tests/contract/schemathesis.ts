/**
 * Schemathesis, a second reader of the OpenAPI document, against a running server:
 * `bun run test:contract`. It comes from pip and is not part of the suite; without it this says so
 * and passes. SCHEMATHESIS_BIN names its program, SCHEMATHESIS_EXAMPLES the number of requests an
 * operation and phase.
 */
import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { createPerson, createTenant, createTestApi } from "../factories.ts";
import { cleanup, startServer, temporaryDirectory } from "../harness.ts";

const EXAMPLES = process.env.SCHEMATHESIS_EXAMPLES ?? "50";
const BINARY = process.env.SCHEMATHESIS_BIN || Bun.which("schemathesis") || Bun.which("st");

/**
 * Operations that refuse what their schema allows, because JSON Schema can't say more, each with
 * the reason. All others must accept every valid request.
 */
const BEYOND_SCHEMA: Record<string, string[]> = {
  "days, or startDate and endDate in order and at most 1,100 days apart": [
    "GET /analytics/breakdown",
    "GET /analytics/products/top",
    "GET /analytics/products/{id}/timeseries",
    "GET /analytics/summary",
    "GET /analytics/users/me/summary",
    "GET /analytics/users/{id}/summary",
  ],
  "a cursor is one that this list has given": ["GET /audit", "GET /events", "GET /members"],
  "an expiry lies ahead": ["POST /api-keys"],
  "a time zone is one that is known": ["PATCH /tenants/current"],
  "a timestamp, corrected by sentAt, is neither ahead nor too old; somebody or something is named": [
    "POST /events",
    "POST /events/bulk",
  ],
};

/**
 * A valid request may collide with existing data: 422 is an Idempotency-Key that was used with
 * another payload.
 */
const ACCEPTANCE = "2xx 3xx 401 403 404 409 422 429".split(" ");

function configuration(): string {
  const operations = Object.values(BEYOND_SCHEMA).flat();
  return [
    "[checks.positive_data_acceptance]",
    `expected-statuses = ${JSON.stringify(ACCEPTANCE)}`,
    "[[operations]]",
    `include-name = ${JSON.stringify(operations)}`,
    "checks.positive_data_acceptance.enabled = false",
  ].join("\n");
}

afterAll(cleanup);

test(
  "schemathesis finds nothing",
  async () => {
    if (!BINARY) {
      console.log("schemathesis is not installed, nothing was checked: `pip install schemathesis`.");
      return;
    }
    const api = await createTestApi();
    const { tenantId } = await createTenant(api);
    const { token } = await createPerson(api, tenantId, "admin");
    const server = await startServer({ ...api.env, LOG_LEVEL: "error" });
    const cwd = temporaryDirectory("schemathesis");
    await Bun.write(join(cwd, "schemathesis.toml"), configuration());
    for (const [reason, operations] of Object.entries(BEYOND_SCHEMA))
      console.log(
        `not asked to accept all that its schema allows, since ${reason}: ${operations.join(", ")}`,
      );
    const command = [
      BINARY,
      "run",
      `${server.url}/openapi.json`,
      ...["--header", `Authorization: Bearer ${token}`],
      // Answers without an end.
      ...["--exclude-operation-id", "streamNotifications", "--exclude-operation-id", "streamSummary"],
      ...["--max-examples", EXAMPLES],
      ...["--max-response-time", "2"],
      "--continue-on-failure",
    ];
    const run = Bun.spawn(command, {
      cwd,
      env: {
        PATH: process.env.PATH ?? "",
        NO_COLOR: "1",
        PYTHONPATH: import.meta.dir,
        PYTHONDONTWRITEBYTECODE: "1",
        SCHEMATHESIS_HOOKS: "schemathesis_hooks",
      },
      stdout: "pipe",
      stderr: "inherit",
    });
    console.log(await new Response(run.stdout).text());
    expect(await run.exited).toBe(0);
    expect(server.stdout()).not.toContain('"level":"error"');
  },
  30 * 60_000,
);
