/** What is said about a bad input: the problem, and what would be right. */
import { describe, expect, test } from "bun:test";
import { z } from "zod";
import { ConfigError, parseConfig } from "../../src/config.ts";
import { nearestOf } from "../../src/core/nearest.ts";
import { fieldErrorsOf, invalidInput } from "../../src/core/validation.ts";
import { SingleEventInput } from "../../src/features/events/schema.ts";
import { ApiKeyInput } from "../../src/features/identity/schema.ts";
import { ProductInput, ProductListQuery } from "../../src/features/products/schema.ts";
import { testEnv } from "../harness.ts";

/** `path message` of each finding. */
function findings(schema: z.ZodType, input: unknown): string[] {
  const { error } = schema.safeParse(input);
  return error ? fieldErrorsOf(error).map(({ path, message }) => `${path} ${message}`.trim()) : [];
}

const timestampOf = (timestamp: unknown) => findings(SingleEventInput, { type: "view", timestamp });

describe("a time", () => {
  test.each<[string, unknown, string]>([
    ["without a time zone", "2026-11-21T09:30:00", "has no time zone: send 2026-11-21T09:30:00Z"],
    ["as SQL writes it", "2026-11-21 09:30:00.123", "has no time zone: send 2026-11-21T09:30:00.123Z"],
    ["without a time of day", "2026-11-21", "has no time of day: send 2026-11-21T00:00:00Z"],
    [
      "with an unencoded +",
      "2026-11-21T09:30:00 01:00",
      "has a space instead of a +: write the + as %2B in a query",
    ],
    ["off the calendar", "2026-02-30T09:30:00Z", "is no date and time of the calendar"],
    [
      "as a number in a string",
      "1795253400000",
      "must be a time such as 2026-11-21T09:30:00Z, not a number in a string",
    ],
    ["in words", "yesterday", "must be a time with a time zone (RFC 3339), such as 2026-11-21T09:30:00Z"],
    ["in epoch seconds", 1_795_253_400, "looks like epoch seconds; send milliseconds (1795253400000)"],
    ["in epoch microseconds", 1_795_253_400_000_000, "looks like epoch microseconds; send milliseconds"],
    ["before 1970", -1, "must be at least 0, but is -1"],
    ["with a fraction", 1.5, "must be a whole number, but is 1.5"],
    ["of another type", true, "must be a string or a number, but is true"],
  ])("%s", (_, timestamp, message) => {
    expect(timestampOf(timestamp)[0]).toStartWith(`timestamp ${message}`);
  });

  test("that is right raises nothing", () => {
    for (const time of ["2026-11-21T09:30:00Z", "2026-11-21T09:30:00.5+01:00", 1_795_253_400_000, 0])
      expect(timestampOf(time)).toEqual([]);
  });

  test("in the wrong unit has a code of its own", () => {
    const { error } = SingleEventInput.safeParse({ type: "view", sentAt: 1_795_253_400 });
    expect(fieldErrorsOf(error as z.ZodError)).toMatchObject([{ path: "sentAt", code: "wrong_unit" }]);
  });
});

describe("a key that is not known", () => {
  const names = Object.keys(ProductInput.shape).join(", ");

  test.each([
    ["pricee", "price"],
    ["prcie", "price"],
    ["image_url", "imageUrl"],
    ["low-stock-threshold", "lowStockThreshold"],
    ["desc", "description"],
  ])("%s is told to be %s", (key, meant) => {
    expect(findings(ProductInput, { name: "Tea", price: 1, [key]: 1 })).toEqual([
      `${key} is no known name; did you mean ${meant}? The names are ${names}`,
    ]);
  });

  test("like nothing is told the list alone, each one for itself", () => {
    expect(findings(ProductInput, { name: "Tea", price: 1, colour: "red", "": 1 })).toEqual([
      `colour is no known name; the names are ${names}`,
      `is no known name; the names are ${names}`,
    ]);
  });

  test("inside of something is named with its path", () => {
    const schema = z.strictObject({ inner: z.array(z.strictObject({ a: z.number() })) });
    expect(findings(schema, { inner: [{ a: 1, b: 1 }] })).toEqual([
      "inner.0.b is no known name; the names are a",
    ]);
    expect(findings(z.strictObject({}), { x: 1 })).toEqual(["x is no known name; none is taken here"]);
  });
});

describe("a value", () => {
  test("of a list is told the list and what is near", () => {
    expect(findings(ApiKeyInput, { name: "n", kind: "Publishable" })).toEqual([
      'kind must be one of secret, publishable, but is "Publishable"; did you mean publishable?',
    ]);
    expect(findings(z.object({ a: z.literal("queued") }), {})).toEqual(["a is required: it must be queued"]);
    expect(findings(z.enum(["a", "b"]), "x".repeat(100))).toEqual([
      `must be one of a, b, but is "${"x".repeat(60)}…"`,
    ]);
  });

  test("out of bounds is told the bound and itself", () => {
    expect(findings(ProductListQuery, { limit: "0", page: "x" })).toEqual([
      "limit must be at least 1, but is 0",
      "page must be a number",
    ]);
    expect(findings(z.number().gt(1).lt(3), 1)).toEqual(["must be more than 1, but is 1"]);
    expect(findings(z.string().min(8), "short")).toEqual(["must have at least 8 characters, but has 5"]);
    expect(findings(z.string().max(1), "ab")).toEqual(["must have at most 1 character, but has 2"]);
    expect(findings(z.array(z.number()).min(1), [])).toEqual(["must not be empty"]);
    expect(findings(z.array(z.number()).length(2), [1])).toEqual(["must have exactly 2 items, but has 1"]);
    expect(findings(z.number().multipleOf(5), 3)).toEqual(["must be a multiple of 5"]);
  });

  test("of another type is told both types, and never itself: it may be a secret", () => {
    expect(findings(ProductInput, { name: 12_345, price: "4.95" })).toEqual([
      "name must be a string, but is a number",
      "price must be a number, but is a string",
    ]);
    expect(findings(ProductInput, [])).toEqual(["must be an object, but is an array"]);
    expect(findings(ProductInput, {})).toEqual([
      "name is required: it must be a string",
      "price is required: it must be a number",
    ]);
    expect(findings(z.number(), Number.POSITIVE_INFINITY)).toEqual([
      "must be a number that a double can hold",
    ]);
  });

  test("of a format is told an example", () => {
    expect(findings(z.uuid(), "7")[0]).toStartWith("must be a UUID, such as ");
    expect(findings(z.email(), "ada")).toEqual(["must be an e-mail address, such as ada@example.com"]);
    expect(findings(z.string().regex(/^a$/), "b")).toEqual(["must match /^a$/"]);
  });

  test("of a union is measured by the branch that takes its type", () => {
    const schema = z.object({ a: z.union([z.object({ n: z.number().min(1) }), z.string()]) });
    expect(findings(schema, { a: { n: 0 } })).toEqual(["a.n must be at least 1, but is 0"]);
    expect(findings(schema, {})).toEqual(["a is required: it must be an object or a string"]);
    const both = z.union([z.strictObject({ a: z.string() }), z.strictObject({ b: z.string() })]);
    expect(findings(both, {})).toEqual([
      "its a is required: it must be a string, or its b is required: it must be a string",
    ]);
  });

  test("of a record names the key that is wrong", () => {
    expect(findings(z.record(z.string().max(2), z.number()), { abc: 1 })).toEqual([
      "abc has a key that is refused: it must have at most 2 characters, but has 3",
    ]);
  });
});

describe("the nearest name", () => {
  test("is none for what is far, long or short", () => {
    expect(nearestOf("colour", ["id", "name", "price"])).toBeNull();
    expect(nearestOf("x".repeat(1_000_000), ["x"])).toBeNull();
    expect(nearestOf("ab", ["cd"])).toBeNull();
    expect(nearestOf("anything", [])).toBeNull();
  });
});

test("the detail of a problem tells the first finding", () => {
  const { error } = ProductInput.safeParse({ name: "Tea", price: -1, colour: 1 });
  const { message, errors } = invalidInput("body", fieldErrorsOf(error as z.ZodError));
  expect(message).toBe("The body is not valid: price must be at least 0, but is -1.");
  expect(errors?.length).toBe(2);
});

describe("a setting", () => {
  test.each([
    [{ PORT: "many" }, "PORT must be a number (see .env.example for what it means)."],
    [{ PORT: "70000" }, "PORT must be at most 65535, but is 70000 (see .env.example for what it means)."],
    [
      { LOG_LEVEL: "verbose" },
      'LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent, but is "verbose" (see .env.example for what it means).',
    ],
    [
      { DATABASE_URL: "mysql://x" },
      "DATABASE_URL must be a postgres:// URL, such as postgres://user:password@localhost:5432/footfall (see .env.example for what it means).",
    ],
    [{ REDIS_URL: "" }, "REDIS_URL is not set (see .env.example for what it means)."],
  ])("%o", (settings, message) => {
    expect(() =>
      parseConfig(testEnv({ DATABASE_URL: "postgres://x/y", REDIS_URL: "redis://x", ...settings })),
    ).toThrow(new ConfigError(message));
  });
});
