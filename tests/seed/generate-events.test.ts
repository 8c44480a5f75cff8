import { describe, expect, test } from "bun:test";
import { generateEvents, type SeedEvent, type SeedOptions } from "../../src/features/seeding/index.ts";

const UNTIL_MS = Date.parse("2026-06-17T15:20:00Z");
const DAY_MS = 86_400_000;

function generate(options: Partial<SeedOptions> = {}): SeedEvent[] {
  const defaults = {
    seed: 1,
    users: 300,
    products: 50,
    events: 30_000,
    days: 28,
    untilMs: UNTIL_MS,
    timeZone: "UTC",
  };
  return [...generateEvents({ ...defaults, ...options })];
}

function countBy(events: readonly SeedEvent[], key: (event: SeedEvent) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const event of events) counts[key(event)] = (counts[key(event)] ?? 0) + 1;
  return counts;
}

const events = generate();

test("equal options give equal events; another seed, end or size gives others", () => {
  expect(generate()).toEqual(events);
  for (const other of [{ seed: 2 }, { untilMs: UNTIL_MS - 1 }, { events: 29_999 }]) {
    const known = new Set(events.map(({ messageId }) => messageId));
    expect(generate(other).some(({ messageId }) => known.has(messageId))).toBe(false);
  }
});

test.each([1, 7, 1_000, 30_000])("%d events are exactly that many, each with an id of its own", (count) => {
  const some = generate({ events: count });
  expect(some).toHaveLength(count);
  expect(new Set(some.map(({ messageId }) => messageId)).size).toBe(count);
});

test.each([1, 28, 400])("over %d days all lie within these days, none after the end", (days) => {
  const times = generate({ days, events: 5_000 }).map(({ timestamp }) => timestamp);
  expect(Math.min(...times)).toBeGreaterThanOrEqual(UNTIL_MS - days * DAY_MS);
  expect(Math.max(...times)).toBeLessThanOrEqual(UNTIL_MS);
  const used = new Set(times.map((time) => Math.floor((time - UNTIL_MS) / DAY_MS)));
  expect(used.size).toBeGreaterThan(days * 0.9);
});

describe("the traffic looks like a shop's:", () => {
  const types = countBy(events, ({ type }) => type);
  const count = (type: string) => types[type] ?? 0;

  test("every step of the funnel is taken by fewer", () => {
    const steps = ["view", "click", "add_to_cart", "checkout_start", "purchase", "refund"].map(count);
    expect(steps).toEqual(steps.toSorted((a, b) => b - a));
    expect(steps.at(-1)).toBeGreaterThan(0);
    expect(count("purchase") / count("view")).toBeWithin(0.01, 0.1);
    expect(count("remove_from_cart")).toBeWithin(1, count("add_to_cart") / 2);
  });

  test("nothing is bought that was not in the cart, and nothing refunded that was not bought", () => {
    const firstMs = new Map<string, number>();
    for (const { sessionId, productId, type, timestamp } of events) {
      const key = `${sessionId} ${productId} ${type}`;
      firstMs.set(key, Math.min(firstMs.get(key) ?? timestamp, timestamp));
    }
    const before = {
      purchase: "checkout_start",
      checkout_start: "add_to_cart",
      refund: "purchase",
      click: "view",
    };
    for (const { sessionId, productId, type, timestamp } of events) {
      const needed = before[type as keyof typeof before];
      if (needed)
        expect(firstMs.get(`${sessionId} ${productId} ${needed}`) ?? Infinity).toBeLessThan(timestamp);
    }
  });

  test("a few products are popular, and each has one price with two decimals", () => {
    const views = Object.values(countBy(events, ({ productId = "" }) => productId)).sort((a, b) => b - a);
    expect(views.slice(0, 5).reduce((sum, one) => sum + one, 0) / events.length).toBeWithin(0.2, 0.5);
    const prices = new Map<string, number>();
    for (const { type, productId = "", properties } of events) {
      if (type !== "purchase" && type !== "refund") continue;
      const price = properties.price as number;
      expect(price).toBe(Number(price.toFixed(2)));
      expect(prices.get(productId) ?? price).toBe(price);
      prices.set(productId, price);
    }
  });

  test("users come back with the device that they had, strangers sometimes", () => {
    const sessions = new Map<string, Set<string>>();
    const devices = new Map<string, Set<unknown>>();
    for (const { userId, anonymousId, sessionId, properties } of events) {
      const who = userId ?? anonymousId ?? "";
      sessions.set(who, (sessions.get(who) ?? new Set()).add(sessionId));
      devices.set(who, (devices.get(who) ?? new Set()).add(properties.device));
    }
    const returning = (prefix: string) => {
      const visits = [...sessions].filter(([who]) => who.startsWith(prefix)).map(([, some]) => some.size);
      return visits.filter((number) => number > 1).length / visits.length;
    };
    expect(returning("user-")).toBeGreaterThan(0.8);
    expect(returning("anon-")).toBeWithin(0.05, 0.5);
    expect([...devices.values()].every(({ size }) => size === 1)).toBe(true);
  });

  test.each(["UTC", "Asia/Tokyo", "America/New_York"])(
    "nights are quiet and evenings busy in %s",
    (timeZone) => {
      const local = new Intl.DateTimeFormat("en", { timeZone, hour: "numeric", hourCycle: "h23" });
      const hours = countBy(generate({ timeZone }), ({ timestamp }) => local.format(timestamp));
      const between = (from: number, to: number) => {
        let sum = 0;
        for (let hour = from; hour < to; hour += 1) sum += hours[String(hour).padStart(2, "0")] ?? 0;
        return sum / (to - from);
      };
      expect(between(19, 22)).toBeGreaterThan(between(9, 17) * 1.2);
      expect(between(9, 17)).toBeGreaterThan(between(1, 5) * 5);
    },
  );

  test("weekends are busier", () => {
    const days = countBy(events, ({ timestamp }) => String(new Date(timestamp).getUTCDay()));
    const weekend = ((days[0] ?? 0) + (days[6] ?? 0)) / 2;
    const weekdays = [1, 2, 3, 4, 5].reduce((sum, day) => sum + (days[day] ?? 0), 0) / 5;
    expect(weekend).toBeGreaterThan(weekdays * 1.15);
  });
});
