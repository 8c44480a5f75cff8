/**
 * Schemathesis, a second reader of the OpenAPI document, against a running server: `bun run test:contract`. It comes from
 * pip and is no part of the suite, so without it this says so and passes. SCHEMATHESIS_BIN names one off the PATH,
 * SCHEMATHESIS_EXAMPLES how many requests it makes for an operation and phase.
 */
import { afterAll, expect, test } from "bun:test";
import { createPerson, createTenant, createTestApi } from "../factories.ts";
import { cleanup, startServer, temporaryDirectory } from "../harness.ts";

const EXAMPLES = process.env.SCHEMATHESIS_EXAMPLES ?? "50";
const BINARY = process.env.SCHEMATHESIS_BIN || Bun.which("schemathesis") || Bun.which("st");

/** Checks that ask for what the contract does not promise, each with the reason. */
const LEFT_OUT: Record<string, string> = {
  positive_data_acceptance:
    "JSON Schema can't say that an expiry lies ahead, what a time zone is, or that of two fields one is needed",
  allow_header_conformance: "GET /events/bulk is GET /events/{id}, and Allow says so",
};

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
    const leftOut = Object.keys(LEFT_OUT);
    const command = [
      BINARY,
      "run",
      `${server.url}/openapi.json`,
      ...["--header", `Authorization: Bearer ${token}`],
      ...["--checks", "all"],
      ...(leftOut.length > 0 ? ["--exclude-checks", leftOut.join(",")] : []),
      // An answer without an end.
      ...["--exclude-operation-id", "streamNotifications"],
      ...["--max-examples", EXAMPLES],
      ...["--max-response-time", "2"],
      "--continue-on-failure",
    ];
    const run = Bun.spawn(command, {
      cwd: temporaryDirectory("schemathesis"),
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
