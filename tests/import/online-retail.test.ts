/**
 * "Online Retail" by its preset: the sample everywhere, the whole set (not part of this repository)
 * where it is present. The expected figures were computed outside of this program.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { CLEAN, countEvents, hashRollups, importFile, readFigures, SAMPLE, verify } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const importAll = (file: string) => importFile(api, tenant, file, "--preset", "online-retail");

test("the sample comes out exactly, duplicates and all, and a second import changes nothing", async () => {
  const first = await importAll(SAMPLE);
  // An import that takes seconds says how far it is.
  expect(first.stderr.replaceAll(/^\d+ rows read.*\n/gm, "")).toBe("");
  expect(first.stdout).toContain("300 rows read, 300 stored, 0 duplicates, 0 rejected");
  expect(first.exitCode).toBe(0);

  const { total, months, products, countries } = await readFigures(api.sql, tenant.tenantId);
  expect(total).toBe("-20999.216");
  expect(months).toEqual({
    "2010-12": "1194.61",
    "2011-01": "-855.91",
    "2011-02": "-764.01",
    "2011-03": "170.1",
    "2011-04": "76.381",
    "2011-05": "152.16",
    "2011-06": "72.71",
    "2011-07": "87.921",
    "2011-08": "-21820.33",
    "2011-09": "211.302",
    "2011-10": "188.03",
    "2011-11": "187.61",
    "2011-12": "100.21",
  });
  expect(products.slice(0, 4)).toEqual([
    ["22750", "144"],
    ["21212", "120"],
    ["85123a", "119"],
    ["85123A", "74"],
  ]);
  expect(Object.fromEntries(products)["BANK CHARGES"]).toBe("-5");
  expect(countries).toEqual([
    ["France", "657.5"],
    ["Australia", "488.16"],
    ["Netherlands", "76.32"],
    ["Switzerland", "51"],
    ["EIRE", "15.3"],
    ["Norway", "5.04"],
    ["Germany", "-76"],
    ["United Kingdom", "-22216.536"],
  ]);
  expect(await countEvents(api.sql, tenant.tenantId)).toEqual({
    events: 300,
    refunds: 44,
    adjustments: 2,
    anonymous: 97,
    users: 111,
    sessions: 206,
    products: 230,
  });
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);

  const before = await hashRollups(api.sql, tenant.tenantId);
  const second = await importAll(SAMPLE);
  expect(second.stdout).toContain("300 rows read, 0 stored, 300 duplicates, 0 rejected");
  expect(second.exitCode).toBe(0);
  expect(await hashRollups(api.sql, tenant.tenantId)).toEqual(before);
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
});

test("a row becomes the event that it describes", async () => {
  await importAll(SAMPLE);
  const { body } = await api.call("GET", "/events?productId=BANK%20CHARGES&limit=100", { as: tenant.key });
  expect(body.items.at(-1)).toMatchObject({
    type: "purchase",
    productId: "BANK CHARGES",
    userId: "15823.0",
    anonymousId: null,
    sessionId: "536779",
    timestamp: "2010-12-02T15:08:00.000Z",
    messageId: expect.stringMatching(/^imp:[0-9a-f]{32}:1$/),
    properties: { country: "United Kingdom", quantity: 1, price: 15 },
  });
  expect(body.items.at(-2)).toMatchObject({
    type: "refund",
    userId: null,
    anonymousId: "C537572",
    sessionId: "C537572",
    timestamp: "2010-12-07T12:00:00.000Z",
    properties: { country: "United Kingdom", quantity: 1, price: 95.38 },
  });
});

test("the two rows of a negative price are adjustments: money, and neither purchases nor units", async () => {
  await importAll(SAMPLE);
  const { body } = await api.call("GET", "/events?type=adjustment", { as: tenant.key });
  expect(body.items).toHaveLength(2);
  for (const event of body.items)
    expect(event).toMatchObject({
      productId: "B",
      properties: { country: "United Kingdom", quantity: 1, price: -11062.06 },
    });
  const query = "startDate=2011-08-01&endDate=2011-08-31";
  const { points } = (await api.call("GET", `/analytics/products/B/timeseries?${query}`, { as: tenant.key }))
    .body;
  const adjusted = points.filter(({ revenue }: { revenue: number }) => revenue !== 0);
  expect(adjusted).toMatchObject([{ day: "2011-08-12", purchases: 0, units: 0, revenue: -22124.12 }]);
});

const WHOLE_SET = join(import.meta.dir, "../../../shared/data/online_retail_541909.csv.gz");
const isAtHand = existsSync(WHOLE_SET);
if (!isAtHand)
  console.log("The whole Online Retail set is not at hand (../shared/data), so only its sample is tested.");

describe.skipIf(!isAtHand)("the whole set", () => {
  const rows = 541_909;

  test("comes out exactly, and a second import changes nothing", async () => {
    const first = await importAll(WHOLE_SET);
    expect(first.stdout).toContain(`${rows} rows read, ${rows} stored, 0 duplicates, 0 rejected`);
    expect(first.exitCode).toBe(0);

    const { total, months, products, countries } = await readFigures(api.sql, tenant.tenantId);
    expect(total).toBe("9747747.934");
    expect(months).toEqual({
      "2010-12": "748957.02",
      "2011-01": "560000.26",
      "2011-02": "498062.65",
      "2011-03": "683267.08",
      "2011-04": "493207.121",
      "2011-05": "723333.51",
      "2011-06": "691123.12",
      "2011-07": "681300.111",
      "2011-08": "682680.51",
      "2011-09": "1019687.622",
      "2011-10": "1070704.67",
      "2011-11": "1461756.25",
      "2011-12": "433668.01",
    });
    expect(products.slice(0, 7)).toEqual([
      ["22197", "56450"],
      ["84077", "53847"],
      ["85099B", "47363"],
      ["85123A", "38830"],
      ["84879", "36221"],
      ["21212", "36039"],
      ["23084", "30646"],
    ]);
    expect(countries.slice(0, 5)).toEqual([
      ["United Kingdom", "8187806.364"],
      ["Netherlands", "284661.54"],
      ["EIRE", "263276.82"],
      ["Germany", "221698.21"],
      ["France", "197403.9"],
    ]);
    expect(await countEvents(api.sql, tenant.tenantId)).toEqual({
      events: rows,
      refunds: 10_624,
      adjustments: 2,
      anonymous: 135_080,
      users: 4_372,
      sessions: 25_900,
      products: 4_070,
    });
    expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);

    const before = await hashRollups(api.sql, tenant.tenantId);
    const second = await importAll(WHOLE_SET);
    expect(second.stdout).toContain(`${rows} rows read, 0 stored, ${rows} duplicates, 0 rejected`);
    expect(await hashRollups(api.sql, tenant.tenantId)).toEqual(before);
  }, 300_000);
});
