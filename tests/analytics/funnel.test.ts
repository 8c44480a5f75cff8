/**
 * The funnel follows from the data alone: events of equal time count as in any order. Users with
 * few events and many ties are recounted by the definition itself, over every order that the times
 * allow.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createFiles, importFile } from "../import/fixtures.ts";
import { dayOf, randomFrom } from "../worker/brute-force.ts";

const ZONE = "Europe/Berlin";
const DAYS = { startDate: "2026-10-24", endDate: "2026-10-25" };
/** Before the first day, and over the night in which an hour comes twice. */
const START_MS = Date.parse("2026-10-23T20:00:00Z");
const STEP_MS = 1_800_000;
const HOUR_MS = 3_600_000;
const TYPES = ["view", "add_to_cart", "purchase", "search"] as const;
const USERS = 300;
/** A purchase has a price; of other types it says nothing. */
const PRICED = { properties: { price: 1 } };

interface Happened {
  type: string;
  timestamp: number;
}

let api: TestApi;
/** The same data, imported twice in two orders. */
let shops: TestTenant[];
/** For each user, every order of its events that their times allow. */
let orders: Happened[][][];

beforeAll(async () => {
  api = await createTestApi();
  const random = randomFrom(811);
  const pick = (n: number) => Math.floor(random() * n);
  // At half hours, so that many are equal and many are exactly on the edge of a window.
  const users = Array.from({ length: USERS }, () => {
    const startMs = START_MS + pick(100) * STEP_MS;
    const spread = 1 + pick(5);
    return Array.from({ length: 1 + pick(6) }, () => ({
      type: TYPES[pick(TYPES.length)] ?? "",
      timestamp: startMs + pick(spread) * STEP_MS,
    }));
  });
  orders = users.map(everyOrder);
  const rows = users.flatMap((events, n) =>
    events.map((event) => ({ ...event, anonymousId: `user-${n}`, ...PRICED })),
  );
  const write = createFiles();
  shops = [];
  for (const name of ["one", "other"]) {
    const shop = await createTenant(api, { time_zone: ZONE });
    const shuffled = rows.map((row) => ({ row, at: random() })).sort((a, b) => a.at - b.at);
    const lines = shuffled.map(({ row }) => JSON.stringify(row)).join("\n");
    const imported = await importFile(api, shop, await write(`${name}.ndjson`, lines));
    expect(imported).toMatchObject({ exitCode: 0 });
    shops.push(shop);
  }
}, 60_000);
afterAll(cleanup);

function everyOrder(events: readonly Happened[]): Happened[][] {
  const moments = [...Map.groupBy(events, ({ timestamp }) => timestamp)].sort(([a], [b]) => a - b);
  return moments.reduce<Happened[][]>(
    (begun, [, tied]) => begun.flatMap((order) => permutations(tied).map((own) => [...order, ...own])),
    [[]],
  );
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [item, ...rest]),
  );
}

/**
 * How many of the steps a user takes in one strict order of its events, from the best beginning.
 */
function depthIn(order: readonly Happened[], steps: readonly string[], windowHours: number): number {
  let deepest = 0;
  for (const [index, first] of order.entries()) {
    const day = dayOf(first.timestamp, ZONE);
    if (first.type !== steps[0] || day < DAYS.startDate || day > DAYS.endDate) continue;
    let depth = 1;
    for (const { type, timestamp } of order.slice(index + 1))
      if (type === steps[depth] && timestamp <= first.timestamp + windowHours * HOUR_MS) depth += 1;
    deepest = Math.max(deepest, depth);
  }
  return deepest;
}

function recount(steps: readonly string[], windowHours: number): number[] {
  const depths = orders.map((own) => Math.max(...own.map((order) => depthIn(order, steps, windowHours))));
  return steps.map((_, index) => depths.filter((depth) => depth > index).length);
}

async function ask({ key }: TestTenant, steps: readonly string[], windowHours: number): Promise<number[]> {
  const query = new URLSearchParams({ ...DAYS, steps: steps.join(), windowHours: String(windowHours) });
  const { status, body } = await api.call("GET", `/analytics/funnel?${query}`, { as: key });
  expect(status).toBe(200);
  return body.steps.map(({ users }: { users: number }) => users);
}

test("is that of the best order of equal times, for any steps and windows, and in both imports", async () => {
  const type = fc.constantFrom(...TYPES);
  const question = fc.record({
    steps: fc.array(type, { minLength: 2, maxLength: 8 }),
    windowHours: fc.integer({ min: 1, max: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(question, async ({ steps, windowHours }) => {
      const expected = recount(steps, windowHours);
      for (const shop of shops)
        expect(await ask(shop, steps, windowHours), `${steps} in ${windowHours} h`).toEqual(expected);
    }),
    { numRuns: 60, seed: 811 },
  );
}, 60_000);

test("needs an event a step, also of equal types and times", async () => {
  const shop = await createTenant(api, { time_zone: ZONE });
  const at = START_MS + 24 * HOUR_MS;
  const visitor = (name: string, happened: [type: string, hours: number][]) =>
    happened.map(([type, hours]) => ({
      type,
      timestamp: at + hours * HOUR_MS,
      anonymousId: name,
      ...PRICED,
    }));
  const events = [
    ...visitor("one view", [["view", 0]]),
    ...visitor("two at once", [
      ["view", 0],
      ["view", 0],
    ]),
    ...visitor("all at once", [
      ["purchase", 0],
      ["view", 0],
      ["view", 0],
    ]),
    ...visitor("on the edge", [
      ["view", 0],
      ["purchase", 1],
      ["view", 1],
    ]),
    // The chain from the first view reaches both steps in the last moment, but that one is beyond
    // its window.
    ...visitor("beyond the edge", [
      ["view", 0],
      ["view", 2],
      ["purchase", 2],
    ]),
  ];
  const { status } = await api.call("POST", "/events/bulk", { as: shop.key, json: { events } });
  expect(status).toBe(202);
  expect(await ask(shop, ["view", "view"], 1)).toEqual([5, 3]);
  expect(await ask(shop, ["view", "view", "view"], 1)).toEqual([5, 3, 0]);
  expect(await ask(shop, ["view", "purchase", "view"], 1)).toEqual([5, 3, 2]);
  expect(await ask(shop, ["view", "view", "purchase"], 1)).toEqual([5, 3, 2]);
  expect(await ask(shop, ["purchase", "view"], 1)).toEqual([3, 3]);
});
