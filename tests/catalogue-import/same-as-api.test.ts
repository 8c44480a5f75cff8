/** A product from a file and one from the API keep the same rules and tell the same events. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { csvField } from "../../src/core/csv.ts";
import type { Column } from "../../src/features/catalogue-import/columns.ts";
import { createRowParser } from "../../src/features/catalogue-import/parse-row.ts";
import { ProductInput } from "../../src/features/products/index.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { addWebhook, importCsv, type OutboxRow, readOutbox } from "./fixtures.ts";

describe("the rules", () => {
  const accepts = {
    file(field: Column, value: string | number): boolean {
      const columns: Column[] =
        field === "name" || field === "price" ? ["name", "price"] : ["name", "price", field];
      const values: Partial<Record<Column, string | number>> = { name: "Tea", price: 1, [field]: value };
      // As a reader takes it out of its quotes.
      const cells = columns.map((column) => {
        const text = csvField(values[column] ?? "");
        return text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text;
      });
      return createRowParser(columns)({ line: 1, cells, end: 0, endLine: 1 }).product !== null;
    },
    api: (field: Column, value: string | number) =>
      ProductInput.safeParse({ name: "Tea", price: 1, [field]: value }).success,
  };

  const chars = fc.constantFrom(
    "a",
    " ",
    "ü",
    "😀",
    "\t",
    "\n",
    "\u007f",
    "\u0085",
    "\u00a0",
    "'",
    "=",
    '"',
    ",",
  );
  const lengths = fc.constantFrom(1, 99, 100, 101, 127, 128, 129, 255, 256, 2_048, 2_049, 10_000, 10_001);
  const word = fc.constantFrom(
    ...[
      "import",
      "export",
      "imports",
      "categories",
      "Import",
      ".",
      "..",
      "active",
      "inactive",
      "Active",
      "sold",
    ],
    ...["https://a.example/x", "HTTP://a", "ftp://a", "https://", "http:a", " https://a.example"],
  );
  const texts = fc.oneof(
    word,
    fc.array(chars, { minLength: 1, maxLength: 8 }).map((some) => some.join("")),
    fc
      .tuple(lengths, fc.constantFrom("x", " ", "https://a.example/"))
      .map(([n, start]) => start.padEnd(n, "x")),
    lengths.map((n) => "https://a.example/".padEnd(n, "x")),
  );
  const FIELDS = ["id", "sku", "name", "description", "category", "imageUrl", "status", "sellerId"] as const;

  // Only empty texts differ: to a file, an empty text is none.
  test.each(FIELDS)("of %s are the same", (field) => {
    const seen = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(texts, (text) => {
        const taken = accepts.api(field, text);
        seen[taken ? "taken" : "refused"] += 1;
        expect(accepts.file(field, text), JSON.stringify(text)).toBe(taken);
      }),
      { numRuns: 1_000 },
    );
    expect(Math.min(seen.taken, seen.refused)).toBeGreaterThan(5);
  });

  test("of price and quantity are the same", () => {
    const edges = [
      0,
      -0.01,
      0.01,
      0.001,
      1.5,
      9_999_999_999.99,
      10_000_000_000,
      1_000_000_000,
      1_000_000_001,
      2 ** 31,
    ];
    for (const field of ["price", "quantity"] as const)
      for (const value of edges)
        expect([field, value, accepts.file(field, value)]).toEqual([field, value, accepts.api(field, value)]);
  });
});

describe("the events", () => {
  let api: TestApi;

  beforeAll(async () => {
    api = await createTestApi();
  });
  afterAll(cleanup);

  const told = async ({ tenantId }: TestTenant) =>
    (await readOutbox(api, tenantId))
      .filter(({ topic }) => topic !== "import.finished")
      .map(({ topic, payload }) => ({ topic, payload: timeless(payload) }));

  test("of the same changes are the same", async () => {
    const [byApi, byFile] = [await createTenant(api), await createTenant(api)];
    for (const { tenantId } of [byApi, byFile]) {
      await addWebhook(api, tenantId);
      await api.sql`update tenants set low_stock_threshold = 5 where id = ${tenantId}`;
    }
    const states = [
      { id: "tea", name: "Tea", price: 4.5, quantity: 9, category: "drinks" },
      { id: "tea", name: "Tea", price: 4.5, quantity: 5, category: null },
      { id: "tea", name: "Tea", price: 4.75, quantity: 4, category: null },
      { id: "tea", name: "Tea", price: 4.75, quantity: null, category: null },
      { id: "tea", name: "Tea", price: 4.75, quantity: 3, category: "drinks" },
    ];
    for (const [n, { id, ...fields }] of states.entries()) {
      const request = { as: byApi.key, json: n === 0 ? { id, ...fields } : fields };
      const { status } = await api.call(
        n === 0 ? "POST" : "PATCH",
        n === 0 ? "/products" : `/products/${id}`,
        request,
      );
      expect(status).toBeLessThan(300);
      const row = [id, fields.name, fields.price, fields.quantity, fields.category].map(csvField).join();
      expect(await importCsv(api, byFile.key, `id,name,price,quantity,category\n${row}\n`)).toMatchObject({
        failed: 0,
      });
    }
    const events = await told(byFile);
    expect(events).toEqual(await told(byApi));
    expect(events.map(({ topic }) => topic)).toEqual([
      "product.created",
      "product.lowstock",
      ...Array.from({ length: 4 }, () => "product.updated"),
    ]);
    expect(events[1]?.payload).toMatchObject({
      before: { quantity: 9 },
      after: { quantity: 5 },
      threshold: 5,
    });
  });

  test("of a product that comes back are the same", async () => {
    const [byApi, byFile] = [await createTenant(api), await createTenant(api)];
    for (const { tenantId, key } of [byApi, byFile]) {
      await addWebhook(api, tenantId);
      await api.call("POST", "/products", { as: key, json: { id: "tea", name: "Tea", price: 1 } });
      await api.call("DELETE", "/products/tea", { as: key });
    }
    expect((await api.call("POST", "/products/tea/restore", { as: byApi.key })).status).toBe(200);
    await importCsv(api, byFile.key, "id,name,price\ntea,Tea,1\n");
    const events = await told(byFile);
    expect(events).toEqual(await told(byApi));
    expect(events.map(({ topic }) => topic)).toContain("product.restored");
  });
});

/** Without the fields that differ between two changes at different times. */
function timeless({ before, after, ...rest }: OutboxRow["payload"]) {
  const still = (state: Record<string, unknown> | null) =>
    state && { ...state, createdAt: "", updatedAt: "" };
  return { ...rest, before: still(before), after: still(after) };
}
