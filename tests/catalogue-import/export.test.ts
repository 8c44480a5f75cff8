/**
 * An exported file comes back equal when it is imported, and no cell of it is a formula to a
 * spreadsheet.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { csvField, textOfField } from "../../src/core/csv.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { exportCsv, importCsv, readProducts } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

/** What a product is, without what only its history says. */
const contentOf = async ({ tenantId }: TestTenant) =>
  (await readProducts(api, tenantId)).map(({ version: _, ...rest }) => rest);

const rowsOf = (text: string) =>
  (parse(text) as string[][]).toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1));

async function expectRoundTrip(from: TestTenant, rows: number): Promise<string> {
  const text = await exportCsv(api, from.key);
  const copy = await createTenant(api);
  expect(await importCsv(api, copy.key, text)).toMatchObject({ created: rows, failed: 0 });
  expect(await contentOf(copy)).toEqual(await contentOf(from));
  // What was made in one moment comes in the order of its ids.
  expect(rowsOf(await exportCsv(api, copy.key))).toEqual(rowsOf(text));
  const again = await importCsv(api, from.key, text);
  expect(again).toMatchObject({ rows, updated: rows, created: 0, failed: 0 });
  expect((await readProducts(api, from.tenantId)).every(({ version }) => version === 1)).toBe(true);
  return text;
}

describe("cells", () => {
  test.each([
    ["=1+1", "'=1+1"],
    ["+49 30", "'+49 30"],
    ["-5", "'-5"],
    ["@sum", "'@sum"],
    ["\tx", "'\tx"],
    ["＝1+1", "'＝1+1"],
    ["＋1", "'＋1"],
    ["－1", "'－1"],
    ["＠sum", "'＠sum"],
    ["'＝1", "''＝1"],
    ["\rx", `"'\rx"`],
    ["'=1", "''=1"],
    ["'tis", "'tis"],
    ['a "b", c', '"a ""b"", c"'],
    ["", ""],
  ])("%j is written %j", (text, cell) => {
    expect(csvField(text)).toBe(cell);
  });

  test("come back as they were, and begin no formula", () => {
    const start = fc.constantFrom(
      "",
      "=",
      "+",
      "-",
      "@",
      "＝",
      "＋",
      "－",
      "＠",
      "\t",
      "\r",
      "\n",
      "'",
      "''",
      "'=",
      '"',
      ",",
    );
    fc.assert(
      fc.property(start, fc.string({ unit: "grapheme" }), (first, rest) => {
        const text = first + rest;
        const [[read = ""] = []] = parse(`${csvField(text)},end`, { relax_column_count: true }) as string[][];
        expect(textOfField(read)).toBe(text);
        expect(read).not.toMatch(/^[=+\-@\t\r＝＋－＠]/);
      }),
      { numRuns: 2_000 },
    );
  });
});

test("an empty catalogue is a header", async () => {
  expect(await exportCsv(api, tenant.key)).toBe(
    "id,sku,name,description,price,quantity,category,imageUrl,status,sellerId\r\n",
  );
});

test("awkward products come back equal", async () => {
  const names = [
    "=cmd|' /C calc'!A0",
    "'=x",
    "''-",
    " spaces ",
    "Zwei\r\nZeilen",
    'Quote " and , comma',
    "Größe 👩‍👩‍👧",
    "ﷺ",
  ];
  const rows = names.map((name, n) => ({
    tenant_id: tenant.tenantId,
    id: `${name.trim().replaceAll(/\s/g, "_")}-${n}`,
    sku: n % 2 ? `=${n}` : null,
    name,
    description: n % 3 ? "-1" : null,
    price: n / 4,
    quantity: n % 2 ? n : null,
    category: n % 2 ? "@home" : null,
    image_url: n % 2 ? "https://example.com/?a=b,c" : null,
    status: n % 2 ? "active" : "inactive",
    seller_id: n % 2 ? "+seller" : null,
    created_at: new Date(Date.UTC(2026, 0, 1 + n)).toISOString(),
    updated_at: new Date(Date.UTC(2026, 0, 1 + n)).toISOString(),
  }));
  await api.sql`insert into products ${api.sql(rows as never[])}`;
  const text = await expectRoundTrip(tenant, names.length);
  for (const cells of parse(text) as string[][])
    for (const cell of cells) expect(cell).not.toMatch(/^[=+\-@\t\r＝＋－＠]/);
});

test("whole pages follow each other without a gap, in the order of making, and filters hold", async () => {
  const text = `id,name,price,category,status,sellerId\n${Array.from(
    { length: 3_000 },
    (_, n) => `p${n},n${n},1,c${n % 7},${n % 2 ? "active" : "inactive"},s${n % 3}`,
  ).join("\n")}`;
  await importCsv(api, tenant.key, text);
  const ids = async (query = "") =>
    (parse(await exportCsv(api, tenant.key, query), { from: 2 }) as string[][]).map(([id]) => id);
  const all = Array.from({ length: 3_000 }, (_, n) => `p${n}`);
  expect((await ids()).toSorted()).toEqual(all.toSorted());
  const chosen = all.filter((_, n) => n % 7 === 3 && n % 2 === 1 && n % 3 === 2);
  expect((await ids("?category=c3&status=active&sellerId=s2")).toSorted()).toEqual(chosen.toSorted());
  await api.sql`update products set deleted_at = now() where tenant_id = ${tenant.tenantId} and id <> 'p7'`;
  expect(await ids()).toEqual(["p7"]);
  for (const query of ["?status=gone", "?colour=red", "?category="])
    expect((await api.call("GET", `/products/export${query}`, { as: tenant.key })).status).toBe(400);
});

interface Sale {
  StockCode: string;
  Description: string;
  UnitPrice: string;
}

/**
 * One product a stock code, named as in its last sale with a name, at the price of its last sale
 * with a price.
 */
function productsOf(sales: readonly Sale[]): string {
  const products = new Map<string, { name: string; price: string }>();
  for (const { StockCode: id, Description, UnitPrice } of sales) {
    const known = products.get(id);
    const price = Number(UnitPrice) > 0 ? Number(UnitPrice).toFixed(2) : (known?.price ?? "0.00");
    products.set(id, { name: Description || known?.name || id, price });
  }
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const lines = [...products].map(([id, { name, price }], n) => {
    const note = n % 5 ? "" : "Größe: ½ Zoll, «été» — 数量";
    return [id, `SKU ${id}`, name, note, price].map(quoted).join(",");
  });
  return `id,sku,name,description,price\n${lines.join("\n")}\n`;
}

async function readSales(path: string): Promise<Sale[]> {
  const bytes = new Uint8Array(await Bun.file(path).arrayBuffer());
  const text = path.endsWith(".gz") ? Bun.gunzipSync(bytes) : bytes;
  return parse(Buffer.from(text), { columns: true }) as Sale[];
}

test("the products of the Online Retail sample come back equal", async () => {
  const text = productsOf(await readSales(join(import.meta.dir, "../data/online-retail-sample.csv")));
  const report = await importCsv(api, tenant.key, text);
  expect(report).toMatchObject({ created: 230, failed: 0 });
  await expectRoundTrip(tenant, 230);
});

const WHOLE_SET = join(import.meta.dir, "../../../shared/data/online_retail_541909.csv.gz");
const isAtHand = existsSync(WHOLE_SET);
if (!isAtHand)
  console.log("The whole Online Retail set is not at hand (../shared/data), so only its sample is tested.");

test.skipIf(!isAtHand)(
  "the 4,070 products of the whole set come back equal",
  async () => {
    const sales = await readSales(WHOLE_SET);
    const text = productsOf(sales);
    const report = await importCsv(api, tenant.key, text);
    expect(report).toMatchObject({ status: "succeeded", rows: 4_070, created: 4_070, failed: 0 });
    const stored = new Map((await readProducts(api, tenant.tenantId)).map((row) => [row.id, row]));
    for (const [id = "", sku = "", name = "", , price = ""] of parse(text, { from: 2 }) as string[][])
      expect(stored.get(id)).toMatchObject({ sku, name, price });
    await expectRoundTrip(tenant, 4_070);
  },
  120_000,
);
