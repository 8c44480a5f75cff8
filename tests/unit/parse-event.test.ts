/** The contract's limits of an event, one by one; and that no JSON value makes parseEvent throw. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  EARLIEST_MS,
  type ParsedEvent,
  type ParseFrame,
  parseEvent,
} from "../../src/features/events/parse-event.ts";
import { eventInput } from "../factories.ts";

const NOW = Date.UTC(2026, 10, 21, 12);
const HOUR_MS = 3_600_000;

function frame(overrides: Partial<ParseFrame> = {}): ParseFrame {
  return {
    receivedAtMs: NOW,
    skewMs: 0,
    oldestMs: EARLIEST_MS,
    tooOld: "too old",
    maySell: true,
    messageSpace: "",
    money: null,
    defaults: {},
    ...overrides,
  };
}

function accept(event: unknown, context = frame()): ParsedEvent {
  const result = parseEvent(event, context);
  if ("errors" in result) throw new Error(JSON.stringify(result.errors));
  return result.event;
}

/** The paths of the problems; none for an accepted event. */
function complaints(event: unknown, context = frame()): string[] {
  const result = parseEvent(event, context);
  return "errors" in result ? result.errors.map(({ path }) => path) : [];
}

const text = (length: number) => "x".repeat(length);
const keys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n]));

describe("limits: the last that goes, the first that does not", () => {
  test.each<[string, string, unknown, unknown]>([
    ["type", "type", text(64), text(65)],
    ["type characters", "type", "a.b_c:d-9", "a b"],
    ["messageId", "messageId", text(100), text(101)],
    ["productId", "productId", text(128), text(129)],
    ["userId", "userId", text(200), text(201)],
    ["anonymousId", "anonymousId", text(200), text(201)],
    ["sessionId", "sessionId", text(200), text(201)],
    ["ahead", "timestamp", NOW + HOUR_MS, NOW + HOUR_MS + 1],
    ["ago", "timestamp", EARLIEST_MS, EARLIEST_MS - 1],
    ["properties", "properties", keys(64), keys(65)],
    ["context", "context", keys(64), keys(65)],
    ["depth", "properties", nested(16), nested(17)],
  ])("%s", (_, field, good, bad) => {
    expect(complaints(eventInput({ [field]: good }))).toEqual([]);
    expect(complaints(eventInput({ [field]: bad }))).toEqual([field]);
  });

  test("32 KB of properties and context together, in bytes", () => {
    const sized = (bytes: number) => ({ t: text(bytes - 8) });
    expect(complaints(eventInput({ properties: sized(32_768) }))).toEqual([]);
    expect(complaints(eventInput({ properties: sized(32_769) }))).toEqual([""]);
    expect(complaints(eventInput({ properties: sized(16_384), context: sized(16_384) }))).toEqual([]);
    expect(complaints(eventInput({ properties: sized(16_384), context: sized(16_385) }))).toEqual([""]);
    expect(complaints(eventInput({ properties: { t: "ü".repeat(16_380) } }))).toEqual([]);
    expect(complaints(eventInput({ properties: { t: "ü".repeat(16_381) } }))).toEqual([""]);
  });

  test("sales: quantity and price", () => {
    const sale = (properties: object) => complaints(eventInput({ type: "purchase", properties }));
    for (const quantity of [1, 1e6]) expect(sale({ quantity })).toEqual([]);
    for (const quantity of [0, -1, 0.5, 1e6 + 1, "1", null, true, Number.NaN])
      expect(sale({ quantity })).toContain("properties.quantity");
    for (const price of [0, -0, 1e10, 0.0001]) expect(sale({ price })).toEqual([]);
    for (const price of [1e10 + 0.01, -0.0001, "1", null, []])
      expect(sale({ price })).toContain("properties.price");
    const adjustment = (price: unknown) =>
      complaints(eventInput({ type: "adjustment", properties: { price } }));
    for (const price of [-1e10, -0.0001, 0, 1e10]) expect(adjustment(price)).toEqual([]);
    for (const price of [1e10 + 0.01, -1e10 - 0.01, "-1", null])
      expect(adjustment(price)).toEqual(["properties.price"]);
    const said = (properties: object) => {
      const parsed = parseEvent(eventInput({ type: "purchase", properties }), frame());
      return "errors" in parsed ? parsed.errors.map(({ message }) => message) : [];
    };
    expect(said({ quantity: "2" })).toEqual(["must be a whole number from 1 to 1000000, but is a string"]);
    expect(said({ price: "4.95" })).toEqual(["must be a number from 0 to 10000000000, but is a string"]);
    expect(said({ price: -5 })).toEqual([
      "must be a number from 0 to 10000000000, but is -5; only an adjustment may have a negative one",
    ]);
    // Other types may say what they like there.
    expect(complaints(eventInput({ properties: { quantity: "many", price: null } }))).toEqual([]);
  });

  test("somebody must have done it", () => {
    const nobody = { type: "view" };
    expect(complaints(nobody)).toEqual(["userId"]);
    expect(accept(nobody, frame({ defaults: { userId: "u" } })).userId).toBe("u");
    expect(accept(nobody, frame({ defaults: { sessionId: "s" } })).sessionId).toBe("s");
    expect(accept({ ...nobody, userId: "own" }, frame({ defaults: { userId: "u" } })).userId).toBe("own");
  });
});

test("prices are the decimal that was written", () => {
  const price = (value: number) =>
    accept(eventInput({ type: "adjustment", properties: { price: value } })).unitPrice;
  expect([19.99, 0.1, 1e9, -0.5, 1e-7, 0, 1234567.8912].map(price)).toEqual([
    "19.99",
    "0.1",
    "1000000000",
    "-0.5",
    "0.0000",
    "0",
    "1234567.8912",
  ]);
  fc.assert(
    fc.property(fc.integer({ min: -1e14, max: 1e14 }), (tenThousandths) => {
      const written = price(tenThousandths / 10_000) ?? "";
      const [whole = "", fraction = ""] = written.split(".");
      expect(Number(BigInt(whole + fraction.padEnd(4, "0")))).toBe(tenThousandths || 0);
    }),
  );
});

test("skew moves the timestamp, and the bounds apply to the moved one", () => {
  const skewed = frame({ skewMs: -5 * HOUR_MS });
  expect(accept(eventInput({ timestamp: NOW + 5 * HOUR_MS }), skewed).tsMs).toBe(NOW);
  expect(complaints(eventInput({ timestamp: NOW + 7 * HOUR_MS }), skewed)).toEqual(["timestamp"]);
  expect(accept(eventInput(), skewed).tsMs).toBe(NOW);
});

test("the id carries the timestamp", () => {
  const { id } = accept(eventInput({ timestamp: "2026-01-01T00:00:00.000Z" }));
  expect(Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16)).toBe(Date.UTC(2026, 0, 1));
});

test("__proto__ is a name like any other, and taints nothing", () => {
  const event = JSON.parse(
    '{"type":"view","userId":"u","properties":{"__proto__":{"tainted":1},"constructor":2}}',
  );
  expect(accept(event).properties).toBe('{"__proto__":{"tainted":1},"constructor":2}');
  expect(({} as { tainted?: number }).tainted).toBeUndefined();
  expect(complaints(JSON.parse('{"type":"view","userId":"u","__proto__":{"productId":"p"}}'))).not.toEqual(
    [],
  );
});

const loose = fc.anything({ withNullPrototype: true, maxDepth: 4 });
const field = fc.oneof(
  loose,
  fc.string({ unit: "binary" }),
  fc.double(),
  fc.date().map(String),
  fc.constant(undefined),
);
const almostEvent = fc.record(
  {
    type: fc.oneof(fc.constantFrom("view", "purchase", "refund", "adjustment"), field),
    messageId: field,
    productId: field,
    userId: field,
    anonymousId: field,
    sessionId: field,
    timestamp: fc.oneof(fc.integer(), field),
    properties: fc.oneof(fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue()), field),
    context: fc.oneof(fc.object(), field),
  },
  { requiredKeys: [] },
);

test("any JSON value is an event that can be stored, or a list of complaints; never a throw", () => {
  const json = fc.oneof(
    almostEvent.map(throughJson),
    fc.jsonValue(),
    fc.json().map((one) => JSON.parse(one)),
  );
  fc.assert(
    fc.property(json, (value) => {
      const result = parseEvent(value, frame());
      if ("errors" in result) return expect(result.errors.length).toBeGreaterThan(0);
      expectStorable(result.event);
    }),
    { numRuns: 2_000 },
  );
});

/** As a request would carry it; values that JSON can't carry become null. */
function throughJson(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value, (_, one) => (typeof one === "bigint" ? null : one)) ?? "null");
  } catch {
    return null;
  }
}

function expectStorable(event: ParsedEvent): void {
  const all = JSON.stringify(Object.values(event));
  expect(all.isWellFormed()).toBe(true);
  expect(Object.values(event).join("")).not.toContain("\0");
  expect(event.userId ?? event.anonymousId ?? event.sessionId).toBeString();
  expect(event.tsMs).toBeWithin(EARLIEST_MS, NOW + HOUR_MS + 1);
  expect(Number.isInteger(event.tsMs)).toBe(true);
  if (event.unitPrice !== null) expect(event.unitPrice).toMatch(/^-?\d{1,11}(\.\d{1,4})?$/);
  for (const part of [event.properties, event.context])
    if (part !== null) expect(JSON.parse(part)).toBeObject();
}

function nested(depth: number): unknown {
  return depth === 0 ? 1 : { a: nested(depth - 1) };
}
