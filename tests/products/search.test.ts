/**
 * Search: beginnings of words over four fields, by one tenant's part of the index. No input is an
 * error.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { fillCatalogue, productInput } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

async function find(search: string, as = tenant.key, more = ""): Promise<string[]> {
  const { status, body } = await api.call(
    "GET",
    `/products?limit=100&search=${encodeURIComponent(search)}${more}`,
    { as },
  );
  expect(status).toBe(200);
  return body.items.map((item: { id: string }) => item.id).toSorted();
}

describe("what is found", () => {
  beforeAll(async () => {
    for (const one of [
      { id: "1", name: "Green Tea/Coffee mug", sku: "AB-12X", category: "Kitchen" },
      { id: "2", name: "Grüner Tee", description: "Aus Shizuoka, 100% bio", sku: "ab-13" },
      { id: "3", name: "Teapot (cast-iron)", category: "Kitchen & Home" },
      { id: "4", name: "Ada's tea", description: "see https://shop.example/tea_time?x=1", sku: "3.14" },
      { id: "5", name: "緑茶", category: "茶" },
      { id: "6", name: "Deleted tea" },
    ])
      await api.call("POST", "/products", { as: tenant.key, json: productInput(one) });
    await api.call("DELETE", "/products/6", { as: tenant.key });
  });

  test.each([
    ["tea", ["1", "3", "4"]],
    ["TEA", ["1", "3", "4"]],
    ["te", ["1", "2", "3", "4"]],
    ["gre te", ["1"]],
    ["te gre", ["1"]],
    ["coffee", ["1"]],
    ["green coffee kitch", ["1"]],
    ["ab-1", ["1", "2"]],
    ["AB-12", ["1"]],
    ["12x", ["1"]],
    ["iron", ["3"]],
    ["grüner", ["2"]],
    ["shizu bio", ["2"]],
    ["100%", ["2"]],
    ["ada's", ["4"]],
    ["example", ["4"]],
    ["time", ["4"]],
    ["3.1", ["4"]],
    ["緑", ["5"]],
    ["ea", []],
    ["tea absent", []],
    ["deleted", []],
  ] as const)("%j finds %j", async (search, ids) => {
    expect(await find(search)).toEqual([...ids]);
  });

  test("a changed product is found by its new words only", async () => {
    await api.call("POST", "/products", { as: tenant.key, json: productInput({ id: "7", name: "Oolong" }) });
    await api.call("PATCH", "/products/7", { as: tenant.key, json: { name: "Sencha" } });
    expect([await find("oolong"), await find("sencha")]).toEqual([[], ["7"]]);
  });

  test("filters, order and paging go with it", async () => {
    const page = async (query: string) =>
      (await api.call("GET", `/products?search=te&sortBy=name&limit=3${query}`, { as: tenant.key })).body;
    const first = await page("");
    const rest = await page(`&cursor=${first.nextCursor}`);
    const ids = [...first.items, ...rest.items].map((item: { id: string }) => item.id);
    expect(ids).toEqual(["4", "1", "2", "3"]);
    expect((await page("&page=2")).total).toBe(4);
    expect(await find("te", tenant.key, "&category=Kitchen")).toEqual(["1"]);
  });
});

const HOSTILE = [
  "'",
  "''",
  "\\",
  "\\'",
  "'; drop table products; --",
  "tea & | ! <-> ( )",
  "!tea",
  "tea:*A",
  ":*",
  "&",
  "<2>",
  "%",
  "_",
  "*",
  "(((",
  '"tea"',
  "$1",
  "a".repeat(1_000),
  "a ".repeat(500),
  "&'\\ ".repeat(250),
  "茶".repeat(1_000),
  "🍵 ".repeat(300),
  "🍵",
  "\u200b\u2028",
  "\ufeff",
  "é\u0301",
  "e5 1e5 0x10 -3.1e-7 10.0.0.1 a@b.c http://x/y?z=%20",
];

test.each(HOSTILE)("%j is no error, and finds what it says at the most", async (search) => {
  const found = await find(search);
  expect(found.every((id) => /^[1-7]$/.test(id))).toBe(true);
  const numbered = await api.call("GET", `/products?page=1&search=${encodeURIComponent(search)}`, {
    as: tenant.key,
  });
  expect([numbered.status, numbered.body.total]).toEqual([200, found.length]);
});

test("only punctuation finds nothing, only spaces filter nothing", async () => {
  for (const search of ["!!!", "-", "&|!", "...", "'"]) expect(await find(search)).toEqual([]);
  for (const search of ["", " ", "\t "]) expect((await find(search)).length).toBe((await find("")).length);
  expect((await find("")).length).toBeGreaterThan(4);
});

test("names of any characters are found by any of their words", async () => {
  const shop = await createTenant(api);
  for (const [n, name] of HOSTILE.map((text) => text.slice(0, 200)).entries()) {
    const json = productInput({ id: `h-${n}`, name: `${name} marker${n}x` });
    expect((await api.call("POST", "/products", { as: shop.key, json })).status).toBe(201);
    expect(await find(`marker${n}x`, shop.key)).toEqual([`h-${n}`]);
  }
});

describe("over 6,000 products of six tenants", () => {
  const shops: TestTenant[] = [];
  beforeAll(async () => {
    for (let n = 0; n < 6; n += 1) {
      const shop = await createTenant(api);
      shops.push(shop);
      await fillCatalogue(api, shop.tenantId, 1_000, {
        name: "'lantern number' || n || ' white metal'",
        category: "'group' || n % 10",
      });
    }
    // With vacuum, so that what was just written is in the index itself and not in its list of
    // pending entries.
    await api.sql`vacuum analyze products`;
  });

  /** Nodes of the plan of what the application really asks for a search. */
  async function plan(search: string, as: string) {
    const asked: { text: string; parameters: unknown[] }[] = [];
    const { options } = api.deps.db.read as unknown as { options: { debug: unknown } };
    options.debug = (_connection: number, text: string, parameters: unknown[]) =>
      asked.push({ text, parameters });
    await find(search, as);
    options.debug = false;
    const list = asked.find(({ text }) => text.includes("to_tsquery"));
    const [row] = await api.sql.unsafe(
      `explain (analyze, format json) ${list?.text}`,
      list?.parameters as never,
    );
    const nodes: Record<string, unknown>[] = [];
    const walk = (node: Record<string, unknown>) => {
      nodes.push(node);
      for (const child of (node.Plans ?? []) as Record<string, unknown>[]) walk(child);
    };
    walk(row?.["QUERY PLAN"][0].Plan);
    return nodes;
  }

  test("a search walks the index, and finds no entry of another tenant there", async () => {
    const [shop] = shops;
    const found = ["p-77", ...Array.from({ length: 10 }, (_, n) => `p-77${n}`)].toSorted();
    expect(await find("number77 white", shop?.key)).toEqual(found);
    for (const [search, entries] of [
      ["number77", 11],
      ["number77 white", 11],
      ["number5", 111],
    ] as const) {
      const nodes = await plan(search, shop?.key ?? "");
      const scan = nodes.find((node) => node["Index Name"] === "products_search");
      expect(scan?.["Actual Rows"]).toBe(entries);
      expect(nodes.map((node) => node["Node Type"])).not.toContain("Seq Scan");
    }
  });

  test("the same word in every tenant is found in one", async () => {
    for (const shop of shops) {
      const answer = await api.call("GET", "/products?search=lantern%20group3&page=1&limit=100", {
        as: shop.key,
      });
      expect(answer.body.total).toBe(100);
    }
  });
});
