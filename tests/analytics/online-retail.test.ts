/**
 * A year of a real shop ("Online Retail", UCI, not part of this repository): analytics equal a
 * recount by other code.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { importFile } from "../import/fixtures.ts";
import * as brute from "../worker/brute-force.ts";
import { readRaw } from "../worker/shop-data.ts";
import * as recount from "./recount.ts";

const WHOLE_SET = join(import.meta.dir, "../../../shared/data/online_retail_541909.csv.gz");
const isAtHand = existsSync(WHOLE_SET);
if (!isAtHand)
  console.log("The Online Retail set is not at hand (../shared/data), so its analytics are not recounted.");

const FROM = "2010-12-01";
const TO = "2011-12-31";

/** Half a million events on a busy machine. */
const PATIENCE_MS = 240_000;

describe.skipIf(!isAtHand)("a year of sales", () => {
  let api: TestApi;
  let tenant: TestTenant;
  let raw: brute.RawEvent[];

  beforeAll(async () => {
    api = await createTestApi();
    tenant = await createTenant(api);
    const { exitCode } = await importFile(api, tenant, WHOLE_SET, "--preset", "online-retail");
    expect(exitCode).toBe(0);
    raw = await readRaw(api.sql, tenant.tenantId);
    expect(raw.length).toBe(541_909);
  }, PATIENCE_MS);
  afterAll(cleanup);

  async function ask(path: string, query: Record<string, string | undefined> = {}) {
    const given = Object.entries({ startDate: FROM, endDate: TO, ...query }).filter(([, value]) => value);
    const search = new URLSearchParams(given as [string, string][]);
    const { status, body } = await api.call("GET", `${path}?${search}`, { as: tenant.key });
    expect(`${path} ${status}`).toBe(`${path} 200`);
    const { meta, notes, ...answer } = body;
    expect(notes?.[0]?.code === "conversion_over_one").toBe(brute.convertsOverOne(answer));
    return answer;
  }

  test(
    "top, table and timeseries of products",
    async () => {
      const expected = recount
        .productStats(raw, [])
        .sort((a, b) => b.revenue - a.revenue || (a.productId < b.productId ? -1 : 1));
      const top = await ask("/analytics/products/top", { sortBy: "revenue", limit: "50" });
      expect(
        top.items.map(({ productId, revenue }: { productId: string; revenue: number }) => [
          productId,
          revenue,
        ]),
      ).toEqual(expected.slice(0, 50).map(({ productId, revenue }) => [productId, revenue]));
      const items: unknown[] = [];
      for (let cursor: string | undefined; ; ) {
        const page = await ask("/analytics/products/stats", { sortBy: "revenue", limit: "100", cursor });
        items.push(...page.items);
        cursor = page.nextCursor ?? undefined;
        if (cursor === undefined) break;
      }
      expect(items).toHaveLength(4_070);
      expect(items).toEqual(expected);
      for (const productId of ["22197", "85123A", "BANK CHARGES"]) {
        const byDay = Map.groupBy(
          raw.filter((event) => event.productId === productId),
          ({ tsMs }) => brute.dayOf(tsMs, "UTC"),
        );
        const { points } = await ask(`/analytics/products/${encodeURIComponent(productId)}/timeseries`);
        expect(points).toHaveLength(396);
        for (const { day, ...measures } of points)
          expect(measures).toEqual(brute.measure(byDay.get(day) ?? []));
      }
    },
    PATIENCE_MS,
  );

  test(
    "summary by month and breakdown by country",
    async () => {
      expect(await ask("/analytics/summary", { groupBy: "month" })).toEqual(
        brute.summary(raw, FROM, TO, "UTC", "month"),
      );
      expect(await ask("/analytics/breakdown", { property: "country", limit: "50" })).toEqual({
        items: brute.breakdown(raw, "country", 50),
        truncated: false,
        nextCursor: null,
      });
    },
    PATIENCE_MS,
  );

  test("funnel from purchase to refund, and retention by month", async () => {
    const [startDate, endDate] = ["2011-03-01", "2011-05-31"];
    const near = raw.filter(
      ({ tsMs }) => tsMs >= Date.parse("2011-02-27") && tsMs < Date.parse("2011-07-02"),
    );
    const funnel = await ask("/analytics/funnel", {
      ...{ steps: "purchase,refund,purchase", windowHours: "720", startDate, endDate },
    });
    expect(funnel.steps).toEqual(
      recount.funnel(near, ["purchase", "refund", "purchase"], 720, startDate, endDate, "UTC"),
    );
    expect(funnel.steps[2].users).toBeGreaterThan(10);
    const { cohorts } = await ask("/analytics/retention", { period: "month" });
    expect(cohorts).toEqual(recount.retention(raw, FROM, TO, "UTC", "month"));
  }, 60_000);
});
