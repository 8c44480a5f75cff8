/**
 * Every analytics answer equals a recount over the raw events by other code: late, doubled and
 * disordered events, four tenants with clocks of their own, over both changes of the clocks.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createTenant, createTestApi, rollUpAll, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import * as brute from "../worker/brute-force.ts";
import { AUTUMN, ingestShop, readRaw, type Season, SPRING } from "../worker/shop-data.ts";
import * as recount from "./recount.ts";

interface Shop extends TestTenant {
  zone: string;
  season: Season;
  raw: brute.RawEvent[];
}

const SHOPS: [string, Season][] = [
  ["Europe/Berlin", AUTUMN],
  ["Europe/Berlin", SPRING],
  ["Asia/Kolkata", AUTUMN],
  ["UTC", SPRING],
  ["Australia/Lord_Howe", SPRING],
];
const CATALOGUE: recount.CatalogueRow[] = [
  { id: "p-0", name: "Émail pot", sku: "SKU-0", price: 4.5, status: "active" },
  { id: "p-1", name: "apple", sku: "sku-1", price: 0, status: "active" },
  { id: "p-2", name: "Banana", sku: null, price: 12.34, status: "inactive" },
  { id: "p-3", name: "banana", sku: "100%_x", price: 9_999_999_999.99, status: "active" },
  { id: "p-4", name: "Gone with events", sku: "SKU-4", price: 1, status: "deleted" },
  { id: "q-1", name: "Never seen", sku: "Q", price: 2, status: "active" },
  { id: "q-2", name: "Gone without", sku: null, price: 3, status: "deleted" },
];

let api: TestApi;
const shops: Shop[] = [];

beforeAll(async () => {
  api = await createTestApi();
  for (const [n, [zone, season]] of SHOPS.entries()) {
    const tenant = await createTenant(api, { time_zone: zone });
    await ingestShop(api, tenant, 4_000 + n, 8, season);
    await rollUpAll(api);
    // Late ones, for days that are counted already.
    await ingestShop(api, tenant, 5_000 + n, 5, season);
    const { tenantId } = tenant;
    for (const { status, ...row } of CATALOGUE) {
      const gone = status === "deleted";
      const values = { tenant_id: tenantId, ...row, status: gone ? "active" : status };
      const at = {
        created_at: "2026-01-01",
        updated_at: "2026-01-01",
        deleted_at: gone ? "2026-01-02" : null,
      };
      await api.sql`insert into products ${api.sql({ ...values, ...at })}`;
    }
    shops.push({ ...tenant, zone, season, raw: await readRaw(api.sql, tenantId) });
  }
  await rollUpAll(api);
});
afterAll(cleanup);

async function call(shop: Shop, path: string, query: Record<string, string | undefined> = {}) {
  const { from: startDate, to: endDate } = shop.season;
  const given = Object.entries({ startDate, endDate, ...query }).filter(([, value]) => value !== undefined);
  const search = new URLSearchParams(Object.fromEntries(given) as Record<string, string>);
  return api.call("GET", `${path}?${search}`, { as: shop.key });
}

async function ask(shop: Shop, path: string, query: Record<string, string | undefined> = {}) {
  const { status, body } = await call(shop, path, query);
  expect(`${path} ${status}`).toBe(`${path} 200`);
  const { meta, notes, ...answer } = body;
  expect(notes?.[0]?.code === "conversion_over_one").toBe(brute.convertsOverOne(answer));
  return { meta, answer };
}

const names = SHOPS.map(([zone, { from }], n) => [`${zone} from ${from}`, n] as const);

describe.each(names)("in %s", (_, index) => {
  const shop = () => shops[index] as Shop;
  const days = () => brute.within(shop().raw, shop().season.from, shop().season.to, shop().zone);

  test("the data is worth a recount", () => {
    expect(days().length).toBeGreaterThan(100);
    expect(shop().raw.length).toBeGreaterThan(days().length);
  });

  test("top products carry the catalogue's names, deleted ones theirs", async () => {
    const nameOf = new Map(CATALOGUE.map(({ id, name }) => [id, name]));
    const items = brute.topProducts(days(), "revenue", 50);
    const { answer } = await ask(shop(), "/analytics/products/top", { sortBy: "revenue", limit: "50" });
    expect(answer).toEqual({
      items: items.map((item) => ({ ...item, name: nameOf.get(item.productId) ?? null })),
      truncated: false,
    });
    expect(items.map(({ productId }) => productId)).toContain("p-4");
  });

  const SORTS = ["name", "events", "views", "removeFromCarts", "units", "revenue", "conversionRate"] as const;
  test.each(SORTS)("the table of products by %s, in pages and by cursor", async (sortBy) => {
    const rows = recount.productStats(days(), CATALOGUE);
    const label = (row: (typeof rows)[number]) => (row.name ?? row.productId).toLowerCase();
    for (const sortDir of ["asc", "desc"]) {
      const sign = sortDir === "asc" ? 1 : -1;
      const expected = rows.toSorted((a, b) => {
        const [x, y] = sortBy === "name" ? [label(a), label(b)] : [a[sortBy], b[sortBy]];
        if (x !== y)
          return sortBy === "name"
            ? sign * Buffer.compare(Buffer.from(x as string), Buffer.from(y as string))
            : sign * (x < y ? -1 : 1);
        return a.productId < b.productId ? -1 : 1;
      });
      for (const limit of [4, 100]) {
        const pages: unknown[] = [];
        for (let page = 1; (page - 1) * limit < rows.length; page += 1) {
          const { answer } = await ask(shop(), "/analytics/products/stats", {
            ...{ sortBy, sortDir, limit: String(limit), page: String(page) },
          });
          expect(answer).toMatchObject({ page, limit, total: rows.length });
          pages.push(...answer.items);
        }
        expect(pages).toEqual(expected);
        const followed: unknown[] = [];
        for (let cursor: string | undefined; ; ) {
          const { answer } = await ask(shop(), "/analytics/products/stats", {
            ...{ sortBy, sortDir, limit: String(limit), cursor },
          });
          expect(answer.total).toBe(rows.length);
          followed.push(...answer.items);
          cursor = answer.nextCursor ?? undefined;
          if (cursor === undefined) break;
        }
        expect(followed).toEqual(expected);
      }
    }
  });

  test.each(["BANANA", "sku", "p-", "%", "_", "\\", "Émail", "nothing like it"])(
    "the table searched for %s",
    async (search) => {
      const part = search.toLowerCase();
      const expected = recount
        .productStats(days(), CATALOGUE)
        .filter(({ productId, name, sku }) =>
          [productId, name, sku].some((text) => text?.toLowerCase().includes(part)),
        )
        .sort((a, b) => b.views - a.views || (a.productId < b.productId ? -1 : 1));
      const { answer } = await ask(shop(), "/analytics/products/stats", { search, limit: "100" });
      expect(answer.items).toEqual(expected);
      expect(answer.total).toBe(expected.length);
      const beyond = await ask(shop(), "/analytics/products/stats", { search, page: "9" });
      expect(beyond.answer).toMatchObject({ items: [], total: expected.length, nextCursor: null });
    },
  );

  test("a summary beside the period before it", async () => {
    const { zone, season, raw } = shop();
    for (const length of [1, 3, 16]) {
      const to = season.to;
      const from = shift(to, 1 - length);
      const before = { from: shift(from, -length), to: shift(from, -1) };
      const { answer, meta } = await ask(shop(), "/analytics/summary", {
        ...{ startDate: from, endDate: to, compare: "previous" },
      });
      expect(meta).toMatchObject({ from, to, timeZone: zone });
      const { previous, ...plain } = answer;
      const now = brute.summary(brute.within(raw, from, to, zone), from, to, zone, "day");
      expect(plain).toEqual(now);
      const old = brute.within(raw, before.from, before.to, zone);
      const { totals } = brute.summary(old, before.from, before.to, zone, "day");
      expect(previous).toMatchObject({ ...before, totals });
      for (const [name, is] of Object.entries(now.totals)) {
        const was = totals[name as keyof typeof totals];
        const { absolute, percent } = previous.change[name];
        expect(absolute).toBeCloseTo(is - was, 9);
        if (was === 0) expect(percent).toBeNull();
        else expect(percent).toBeCloseTo(((is - was) / Math.abs(was)) * 100, 6);
      }
    }
  });

  test.each(["hour", "day", "week", "month"] as const)("the series by %s in pages", async (groupBy) => {
    const { zone, season } = shop();
    const { series } = brute.summary(days(), season.from, season.to, zone, groupBy);
    const items: unknown[] = [];
    for (let cursor: string | undefined; ; ) {
      const { answer } = await ask(shop(), "/analytics/summary/paginated", { groupBy, limit: "7", cursor });
      items.push(...answer.items);
      cursor = answer.nextCursor ?? undefined;
      if (cursor === undefined) break;
      expect(answer.items.length).toBe(7);
    }
    expect(items).toEqual(series);
  });

  test("funnels of any steps and windows", async () => {
    const { zone, season, raw } = shop();
    const type = fc.constantFrom("view", "click", "add_to_cart", "purchase", "search", "absent");
    const question = fc.record({
      steps: fc.array(type, { minLength: 2, maxLength: 8 }),
      windowHours: fc.oneof(fc.integer({ min: 1, max: 48 }), fc.integer({ min: 1, max: 720 })),
      start: fc.integer({ min: 0, max: 12 }),
      length: fc.integer({ min: 0, max: 15 }),
    });
    await fc.assert(
      fc.asyncProperty(question, async ({ steps, windowHours, start, length }) => {
        const from = shift(season.from, start);
        const to = shift(from, length);
        const { answer, meta } = await ask(shop(), "/analytics/funnel", {
          ...{ steps: steps.join(), windowHours: String(windowHours), startDate: from, endDate: to },
        });
        expect(meta).toMatchObject({ from, to });
        expect(answer).toEqual({
          steps: recount.funnel(raw, steps, windowHours, from, to, zone),
          windowHours,
        });
      }),
      { numRuns: 40 },
    );
  });

  test.each(["day", "week", "month"] as const)("retention by %s", async (period) => {
    const { zone, season, raw } = shop();
    for (const [startDate, endDate] of [
      [season.from, season.to],
      [shift(season.from, 3), shift(season.to, -2)],
      [shift(season.from, -40), season.to],
    ] as const) {
      const { answer, meta } = await ask(shop(), "/analytics/retention", { period, startDate, endDate });
      const cohorts = recount.retention(raw, startDate, endDate, zone, period);
      expect(answer).toEqual({ period, cohorts });
      expect(meta).toMatchObject({ from: cohorts[0]?.cohort, to: endDate, granularity: period });
    }
  });

  test("an export holds every event once, the newest first, and its count", async () => {
    const response = await api.call("GET", "/events/export", { as: shop().key });
    const lines = response.body
      .trimEnd()
      .split("\n")
      .map((line: string) => JSON.parse(line));
    expect(lines.pop()).toEqual({ count: shop().raw.length });
    expect(lines.map(({ id }: { id: string }) => id)).toEqual(
      recount
        .inOrder(shop().raw)
        .toReversed()
        .map(({ id }) => id),
    );
  });
});

describe("POST /analytics/query", () => {
  const TIME = ["hour", "day", "week", "month"];
  const MEASURES = [
    "events",
    "views",
    "clicks",
    "addToCarts",
    "purchases",
    "units",
    "revenue",
    "conversionRate",
  ];
  const times = fc.option(fc.constantFrom(...TIME), { nil: undefined });
  const days = fc.option(fc.constantFrom(...TIME.slice(1)), { nil: undefined });
  const some = (names: readonly string[]) =>
    fc.subarray([...names], { minLength: 1 }).map((one) => one.toSorted());
  /** What a rollup holds together. */
  const answerable = fc.oneof(
    fc.record({
      time: times,
      other: fc.constantFrom(undefined, "type"),
      metrics: some(MEASURES),
      filters: fc.constantFrom({}, { type: ["view", "purchase"] }, { type: ["absent"] }),
      property: fc.constant(undefined),
    }),
    fc.record({
      time: days,
      other: fc.constantFrom(undefined, "product"),
      metrics: some(MEASURES),
      filters: fc.constantFrom({ productId: ["p-1", "p-7", "q-1"] }),
      property: fc.constant(undefined),
    }),
    fc.record({
      time: days,
      other: fc.constant("product"),
      metrics: some(MEASURES),
      filters: fc.constant({}),
      property: fc.constant(undefined),
    }),
    fc.record({
      time: days,
      other: fc.constantFrom(undefined, "user"),
      metrics: some([...MEASURES, "uniqueUsers", "buyers", "purchaseRate", "activeDays"]).map((one) => [
        ...new Set([...one, "uniqueUsers"]),
      ]),
      filters: fc.constantFrom({}, { userId: ["u-1", "u-15"] }),
      property: fc.constant(undefined),
    }),
    fc.record({
      time: days,
      other: fc.constant(undefined),
      metrics: some(["buyers", "purchaseRate", "sessions"]).map((one) => [...one, "uniqueUsers"]),
      filters: fc.constant({}),
      property: fc.constant(undefined),
    }),
    fc.record({
      time: days,
      other: fc.constant("property"),
      metrics: some(MEASURES),
      filters: fc.constantFrom({}, { value: ["DE", "mobile"] }),
      property: fc.constantFrom("country", "device"),
    }),
    fc.record({
      time: days,
      other: fc.constant(undefined),
      metrics: some(MEASURES),
      filters: fc.constantFrom({ value: ["DE", "mobile"] }),
      property: fc.constantFrom("country", "device"),
    }),
  );

  test("answers what any rollup holds, as a recount does", async () => {
    const question = fc.record({
      shop: fc.constantFrom(...shops),
      asked: answerable,
      limit: fc.constantFrom(3, 40, 1_000),
      sorted: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(question, async ({ shop, asked, limit, sorted }) => {
        const { time, other, metrics, filters, property } = asked;
        const dimensions = [time, other].filter((one) => one !== undefined);
        const { from: startDate, to: endDate } = shop.season;
        const by = metrics[0] as string;
        const sort = sorted ? { by, direction: "desc" } : undefined;
        const json = { metrics, dimensions, filters, property, startDate, endDate, limit, sort };
        const within = brute.within(shop.raw, startDate, endDate, shop.zone).filter((event) => {
          const column = { type: "type", productId: "product", userId: "user", value: "property" };
          return Object.entries(filters).every(([name, values]) =>
            (values as string[]).includes(
              String(recount.dimensionOf(event, column[name as keyof typeof column], shop.zone, property)),
            ),
          );
        });
        const rows = recount.groupBy(within, dimensions, shop.zone, property).map(({ key, events }) => {
          const all = recount.metricsOf(events, shop.zone);
          return { ...key, ...Object.fromEntries(metrics.map((metric) => [metric, all[metric] ?? 0])) };
        });
        if (dimensions.length === 0 && rows.length === 0)
          rows.push(Object.fromEntries(metrics.map((metric) => [metric, 0])));
        const order = (row: Record<string, string | number>) =>
          JSON.stringify(dimensions.map((one) => row[one]));
        const newestFirst = !sorted && time !== undefined;
        const moment = (row: Record<string, string | number>) => (newestFirst ? String(row[time]) : "");
        const value = (row: Record<string, string | number>) => (newestFirst ? 0 : -Number(row[by]));
        rows.sort(
          (a, b) =>
            value(a) - value(b) ||
            Buffer.compare(Buffer.from(moment(b)), Buffer.from(moment(a))) ||
            Buffer.compare(Buffer.from(order(a)), Buffer.from(order(b))),
        );
        let cursor: string | undefined;
        for (let shown = 0; shown === 0 || (cursor !== undefined && shown < 4 * limit); shown += limit) {
          const asked = { ...json, cursor };
          const { status, body } = await api.call("POST", "/analytics/query", { as: shop.key, json: asked });
          expect(`${JSON.stringify(asked)} ${status}`).toBe(`${JSON.stringify(asked)} 200`);
          expect(body.meta.granularity).toBe(time ?? "day");
          expect(body.rows).toEqual(rows.slice(shown, shown + limit));
          const more = rows.length > shown + limit;
          expect([body.truncated, typeof body.nextCursor]).toEqual([more, more ? "string" : "object"]);
          cursor = body.nextCursor ?? undefined;
        }
      }),
      { numRuns: 150 },
    );
  }, 60_000);

  test("on other clocks, from hours that align or from raw events", async () => {
    for (const shop of shops)
      for (const timeZone of ["America/New_York", "Asia/Kathmandu", "Europe/Berlin"]) {
        const { from: startDate, to: endDate } = shop.season;
        const json = {
          metrics: ["events", "revenue"],
          dimensions: ["day", "type"],
          startDate,
          endDate,
          timeZone,
          limit: 1_000,
        };
        const { body } = await api.call("POST", "/analytics/query", { as: shop.key, json });
        const within = brute.within(shop.raw, startDate, endDate, timeZone);
        const rows = recount.groupBy(within, ["day", "type"], timeZone).map(({ key, events }) => {
          return { ...key, events: events.length, revenue: brute.measure(events).revenue };
        });
        const text = (row: object, name: string) => String((row as Record<string, unknown>)[name]);
        const expected = rows
          .toSorted((a, b) => (text(a, "type") < text(b, "type") ? -1 : 1))
          .toSorted(
            (a, b) => Number(text(a, "day") < text(b, "day")) - Number(text(a, "day") > text(b, "day")),
          );
        expect(body.rows).toEqual(expected);
      }
  });

  const metrics = ["events"];
  test.each<[string, Record<string, unknown>, string]>([
    ["types of products", { metrics, dimensions: ["type", "product"] }, "metrics"],
    ["sessions with active days", { metrics: ["sessions", "activeDays"] }, "metrics"],
    ["buyers by hour", { metrics: ["buyers"], dimensions: ["hour"] }, "metrics"],
    ["hours of products", { metrics, dimensions: ["hour", "product"] }, "metrics"],
    [
      "a filter of another rollup",
      { metrics, dimensions: ["product"], filters: { type: ["view"] } },
      "metrics",
    ],
    ["products on another clock", { metrics, dimensions: ["product"], timeZone: "Asia/Tokyo" }, "timeZone"],
    ["two times", { metrics, dimensions: ["day", "week"] }, "dimensions"],
    ["a metric twice", { metrics: ["events", "views", "events"] }, "metrics"],
    ["a dimension twice", { metrics, dimensions: ["type", "type"] }, "dimensions"],
    ["a property without its name", { metrics, dimensions: ["property"] }, "property"],
    ["a property for nothing", { metrics, property: "country" }, "property"],
    ["a sort by what is not asked", { metrics, sort: { by: "views", direction: "asc" } }, "sort.by"],
    ["a year of hours", { metrics, dimensions: ["hour"], days: 365 }, "dimensions"],
    ["no metric", { metrics: [] }, "metrics"],
    ["an unknown metric", { metrics: ["profit"] }, "metrics.0"],
    ["an unknown key", { metrics, having: 1 }, "having"],
    ["NUL", { metrics, filters: { type: ["a\0"] } }, "filters.type.0"],
    ["too many rows", { metrics, limit: 1_001 }, "limit"],
    ["half a range", { metrics, startDate: "2026-01-01" }, "endDate"],
  ])("refuses %s", async (_, json, path) => {
    const { status, body } = await api.call("POST", "/analytics/query", { as: shops[0]?.key, json });
    expect(status).toBe(400);
    expect(body.errors[0].path).toBe(path);
  });
});

describe("GET /analytics/realtime", () => {
  test("counts the last thirty minutes before they are rolled up", async () => {
    const tenant = await createTenant(api);
    const nowMs = Date.now();
    const ages = [0, 1, 30, 59, 61, 600, 1_700, 1_750, 1_801, 2_000, 7_200].map((seconds) => seconds * 1_000);
    const events = ages.flatMap((age, n) =>
      Array.from({ length: 1 + (n % 3) }, (_, k) => ({
        type: k === 0 ? "view" : "purchase",
        productId: n % 2 ? "p-even" : "p-odd",
        anonymousId: `a-${n % 4}`,
        properties: { price: 1 },
        timestamp: nowMs - age,
      })),
    );
    await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
    const query = "?skipCache=true";
    const { body } = await api.call("GET", `/analytics/realtime${query}`, { as: tenant.key });
    const minuteOf = (ms: number) => new Date(Math.floor(ms / 60_000) * 60_000).toISOString();
    const last = body.minutes.at(-1).minute;
    expect([minuteOf(nowMs), minuteOf(Date.now())]).toContain(last);
    expect(body.minutes).toHaveLength(30);
    const first = Date.parse(last) - 29 * 60_000;
    const recent = events.filter(({ timestamp }) => timestamp >= first);
    expect(recent.length).toBeLessThan(events.length);
    for (const [n, { minute, ...counts }] of body.minutes.entries()) {
      expect(minute).toBe(new Date(first + n * 60_000).toISOString());
      const own = recent.filter(({ timestamp }) => minuteOf(timestamp) === minute);
      const activeUsers = new Set(own.map(({ anonymousId }) => anonymousId)).size;
      expect(counts).toEqual({ events: own.length, activeUsers });
    }
    expect(body.events).toBe(recent.length);
    expect(body.activeUsers).toBe(new Set(recent.map(({ anonymousId }) => anonymousId)).size);
    const products = [...Map.groupBy(recent, ({ productId }) => productId)].map(([productId, own]) => ({
      productId,
      name: null,
      events: own.length,
      views: own.filter(({ type }) => type === "view").length,
      purchases: own.filter(({ type }) => type === "purchase").length,
    }));
    expect(body.topProducts).toEqual(
      products.sort((a, b) => b.events - a.events || (a.productId < b.productId ? -1 : 1)),
    );
  });
});

describe("refusals", () => {
  test.each<[string, Record<string, string>]>([
    ["/analytics/funnel", { steps: "view" }],
    ["/analytics/funnel", { steps: "view,,purchase" }],
    ["/analytics/funnel", { steps: "view,View" }],
    ["/analytics/funnel", { steps: "a,b,c,d,e,f,g,h,i" }],
    ["/analytics/funnel", { windowHours: "721" }],
    ["/analytics/funnel", { windowHours: "0" }],
    ["/analytics/funnel", { startDate: "2026-01-01", endDate: "2026-04-04" }],
    ["/analytics/summary", { startDate: "9999-12-01", endDate: "9999-12-30" }],
    ["/analytics/users/u-1/summary", { startDate: "0001-01-01", endDate: "0001-01-02" }],
    ["/analytics/retention", { period: "hour" }],
    ["/analytics/retention", { period: "day", startDate: "2025-01-01", endDate: "2026-01-01" }],
    ["/analytics/summary", { compare: "next" }],
    ["/analytics/summary/paginated", { limit: "0" }],
    ["/analytics/summary/paginated", { cursor: "x" }],
    ["/analytics/products/stats", { page: "0" }],
    ["/analytics/products/stats", { page: "1", cursor: "x" }],
    ["/analytics/products/stats", { sortBy: "price" }],
    ["/analytics/products/stats", { search: "a\0" }],
    ["/events/export", { format: "xlsx" }],
  ])("%s %p", async (path, query) => {
    const dates = path.startsWith("/events") ? { startDate: undefined, endDate: undefined } : {};
    expect((await call(shops[0] as Shop, path, { ...dates, ...query })).status).toBe(400);
  });

  test("a cursor belongs to its question", async () => {
    const shop = shops[0] as Shop;
    const { answer } = await ask(shop, "/analytics/products/stats", { limit: "2" });
    const cursor = answer.nextCursor;
    for (const query of [{ sortBy: "name" }, { sortDir: "asc" }, { search: "a" }, { endDate: "2026-10-30" }])
      expect((await call(shop, "/analytics/products/stats", { ...query, cursor } as never)).status).toBe(400);
    const parts = JSON.parse(Buffer.from(cursor, "base64url").toString());
    for (const [place, value] of [
      [1, "2026-02-30"],
      [3, "many"],
      [3, "1e999999"],
      [4, "\0"],
    ] as const) {
      const forged = Buffer.from(JSON.stringify(parts.with(place, value))).toString("base64url");
      const { status } = await call(shop, "/analytics/products/stats", { limit: "2", cursor: forged });
      expect(status).toBe(400);
    }
  });
});

function shift(day: string, days: number): string {
  return new Date(Date.parse(day) + days * 86_400_000).toISOString().slice(0, 10);
}
