/**
 * What an import counts in money follows the rules of sent events, and what counts for nothing is
 * reported.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CLEAN, createFiles, importFile, readFigures, verify } from "./fixtures.ts";

const write = createFiles();
let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
  const tea = { id: "tea", name: "Tea", price: 4.95 };
  await api.call("POST", "/products", { as: tenant.key, json: tea });
});
afterAll(cleanup);

const line = (type: string, productId: string, properties: object) =>
  JSON.stringify({ type, productId, userId: "u", timestamp: "2026-03-01T10:00:00Z", properties });

test("prices of the catalogue, totals of lines, and a count of warnings by code", async () => {
  const file = await write(
    "sales.ndjson",
    [
      line("purchase", "tea", { quantity: 2 }),
      line("purchase", "unknown", { quantity: 3, revenue: 10 }),
      line("purchase", "unknown", { quantity: 3 }),
      line("refund", "unknown", {}),
      line("purchase", "tea", { price: 1, revenue: 2, items: [] }),
      line("purchase", "tea", { price: 1, revenue: 2, userId: "me" }),
      line("purchase", "tea", { price: 1, sessionId: "s" }),
    ].join("\n"),
  );
  const preview = await importFile(api, tenant, file, "--dry-run");
  expect(preview.stdout).toContain("1 misplaced (properties.sessionId)");
  expect(preview.stdout).toContain("Sales without a price: 3.");
  const { stdout, stderr, exitCode } = await importFile(api, tenant, file);
  // Of seven rows, one is more than one in a hundred.
  expect(exitCode).toBe(2);
  expect(stderr).toContain("line 3 rejected: properties.price is required, or else revenue");
  expect(stdout).toContain("7 rows read, 6 stored, 0 duplicates, 1 rejected");
  expect(stdout).toContain(
    "Warnings: 1 misplaced (properties.sessionId); 1 price_unknown (properties.price); " +
      "3 ignored (properties.items, properties.revenue).",
  );
  expect((await readFigures(api.sql, tenant.tenantId)).total).toBe("22.9");
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
});

test("an export counts the same elsewhere, though nobody knows its products there", async () => {
  const events = [
    { type: "purchase", productId: "tea", userId: "u", properties: { quantity: 2 } },
    { type: "refund", productId: "x", userId: "u", properties: { quantity: 3, revenue: 10 } },
    { type: "adjustment", userId: "u", properties: { price: -0.05 } },
  ];
  await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  const other = await createTenant(api);
  for (const format of ["ndjson", "csv"]) {
    const { body } = await api.call("GET", `/events/export?format=${format}`, { as: tenant.key });
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const { stdout } = await importFile(api, other, await write(`export.${format}`, text));
    expect(stdout).toContain("3 stored");
    expect(stdout).not.toContain("Warnings");
  }
  expect((await readFigures(api.sql, other.tenantId)).total).toBe("-0.3");
});

test("a mapping names the total of a row, whose sign is that of its quantity", async () => {
  const mapping = await write(
    "totals.json",
    JSON.stringify({
      timestamp: { column: "at" },
      type: { constant: "purchase" },
      userId: "who",
      quantity: { column: "qty", negative: "refund" },
      revenue: { column: "total", negative: "adjustment" },
    }),
  );
  const rows = ["2,10.5", "-3,-4.25", "-3,4.25", "1,-0.75", ",7"].map(
    (one) => `2026-03-01T10:00:00Z,u,${one}`,
  );
  const file = await write("totals.csv", ["at,who,qty,total", ...rows].join("\n"));
  const { stdout } = await importFile(api, tenant, file, "--mapping", mapping);
  expect(stdout).toContain("5 stored");
  const stored = await api.sql`select type, quantity, trim_scale(amount)::text as amount from events
    where tenant_id = ${tenant.tenantId} order by id`;
  expect(stored.map((row) => Object.values(row))).toEqual([
    ["purchase", 2, "10.5"],
    ["refund", 3, "4.25"],
    ["refund", 3, "4.25"],
    ["adjustment", 1, "-0.75"],
    ["purchase", 1, "7"],
  ]);
});
