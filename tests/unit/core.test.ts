/** Cursors, exact money, semaphores, messages on the stream, configuration. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ConfigError, parseConfig } from "../../src/config.ts";
import { decodeCursor, encodeCursor } from "../../src/core/cursor.ts";
import { AppError } from "../../src/core/errors.ts";
import { idAt, isUuid, timeOfId } from "../../src/core/ids.ts";
import { createSemaphore } from "../../src/core/semaphore.ts";
import { addCells } from "../../src/features/analytics/measures.ts";
import { decodeAnnouncement, encodeAnnouncement } from "../../src/streams/messages.ts";
import { testEnv } from "../harness.ts";

describe("cursors", () => {
  const filters = fc.record({ type: fc.string(), from: fc.option(fc.string(), { nil: undefined }) });
  const key = fc.array(fc.string({ unit: "binary" }), { minLength: 1, maxLength: 4 });

  test("come back as they went out, and only under their own filters", () => {
    fc.assert(
      fc.property(filters, filters, key, (mine, other, values) => {
        const cursor = encodeCursor(mine, values);
        expect(cursor).toMatch(/^[\w-]+$/);
        expect(decodeCursor(mine, cursor, values.length).map((one) => one.toWellFormed())).toEqual(
          values.map((one) => one.toWellFormed()),
        );
        if (JSON.stringify(mine) !== JSON.stringify(other))
          expect(() => decodeCursor(other, cursor, values.length)).toThrow(AppError);
        expect(() => decodeCursor(mine, cursor, values.length + 1)).toThrow(AppError);
      }),
    );
  });

  test("anything else is refused, never a crash", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), fc.base64String()), (text) => {
        expect(() => decodeCursor({}, text, 2)).toThrow(AppError);
        const encoded = Buffer.from(text).toString("base64url");
        expect(() => decodeCursor({}, encoded, 2)).toThrow(AppError);
      }),
    );
  });
});

describe("money", () => {
  const cell = (revenue: string) => ({ type: "purchase", events: "1", units: "1", revenue });

  test("a million dimes are a hundred thousand", () => {
    expect(addCells(Array(10_000).fill(cell("0.1000"))).measures.revenue).toBe(1_000);
    expect(addCells([cell("0.1"), cell("0.2")]).measures.revenue).toBe(0.3);
    expect(addCells([cell("-0.0001"), cell("0")]).measures.revenue).toBe(-0.0001);
    expect(addCells([cell("-12.5"), cell("12.4999")]).measures.revenue).toBe(-0.0001);
    expect(addCells([]).measures.revenue).toBe(0);
  });

  test("is the nearest double of the exact sum", () => {
    const tenThousandths = fc.bigInt({ min: -(10n ** 22n), max: 10n ** 22n });
    fc.assert(
      fc.property(fc.array(tenThousandths, { maxLength: 20 }), (amounts) => {
        const sum = amounts.reduce((total, one) => total + one, 0n);
        expect(addCells(amounts.map((one) => cell(decimal(one)))).measures.revenue).toBe(
          Number(decimal(sum)),
        );
      }),
    );
  });

  function decimal(tenThousandths: bigint): string {
    const digits = String(tenThousandths < 0n ? -tenThousandths : tenThousandths).padStart(5, "0");
    return `${tenThousandths < 0n ? "-" : ""}${digits.slice(0, -4)}.${digits.slice(-4)}`;
  }
});

test("an id carries the time it was made for, and sorts by it", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 1, max: 1e9 }), (timeMs, later) => {
      const id = idAt(timeMs);
      expect(isUuid(id)).toBe(true);
      expect(timeOfId(id)).toBe(timeMs);
      expect(idAt(timeMs + later) > id).toBe(true);
    }),
  );
  const few = Array.from({ length: 4_096 }, () => idAt(1_767_225_600_001));
  expect(few).toEqual(few.toSorted());
  const ids = Array.from({ length: 10_000 }, () => idAt(1_767_225_600_000));
  expect(ids.every((id) => timeOfId(id) === 1_767_225_600_000)).toBe(true);
  expect(new Set(ids).size).toBe(10_000);
});

test("a semaphore runs no more than it may, and refuses beyond its line", async () => {
  const { run } = createSemaphore(2, 3);
  let running = 0;
  let most = 0;
  const gate = Promise.withResolvers<void>();
  const work = async () => {
    running += 1;
    most = Math.max(most, running);
    await gate.promise;
    running -= 1;
  };
  const accepted = Array.from({ length: 5 }, () => run(work));
  const refused = await run(work).catch((error) => error);
  expect(refused).toBeInstanceOf(AppError);
  expect(refused.code).toBe("unavailable");
  gate.resolve();
  await Promise.all(accepted);
  expect([most, running]).toEqual([2, 0]);
  const failing = run(() => Promise.reject(new Error("no")));
  await failing.catch(() => {});
  await Promise.all(Array.from({ length: 5 }, () => run(async () => {})));
});

describe("announcements", () => {
  const time = fc.option(fc.integer({ min: 0, max: 4e12 }), { nil: null });

  test("come back as they went out", () => {
    fc.assert(
      fc.property(fc.uuid(), fc.uuid(), time, time, (tenantId, batchId, minMs, maxMs) => {
        const flat = encodeAnnouncement({ tenantId, batchId, minMs, maxMs });
        const fields = Object.fromEntries(
          flat.flatMap((name, n) => (n % 2 ? [] : [[name, flat[n + 1] ?? ""]])),
        );
        expect(decodeAnnouncement(fields)).toEqual({ tenantId, batchId, minMs, maxMs });
      }),
    );
  });

  test("anything else is none", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom("v", "t", "b", "min", "max", "x"), fc.string()), (fields) => {
        expect(decodeAnnouncement(fields)).toBeNull();
      }),
    );
  });
});

describe("configuration", () => {
  test.each([
    ["DATABASE_URL", { DATABASE_URL: "" }],
    ["DATABASE_URL", { DATABASE_URL: "mysql://x" }],
    ["REDIS_URL", { REDIS_URL: "localhost" }],
    ["PORT", { PORT: "http" }],
    ["PORT", { PORT: "70000" }],
    ["SIGNUPS", { SIGNUPS: "maybe" }],
    ["LOG_LEVEL", { LOG_LEVEL: "loud" }],
    ["ADMIN_PASSWORD", { ADMIN_PASSWORD: "short" }],
    ["MAX_BODY_BYTES", { MAX_BODY_BYTES: "1e9" }],
    ["JWT_SECRET", { NODE_ENV: "production", JWT_SECRET: "" }],
    ["JWT_SECRET", { NODE_ENV: "production", JWT_SECRET: "too-short" }],
    ["JWT_SECRET", { NODE_ENV: "production", JWT_SECRET: "a".repeat(64) }],
    ["JWT_SECRET", { NODE_ENV: "production", JWT_SECRET: "changeme".repeat(8) }],
    ["JWT_SECRET", { NODE_ENV: "production", JWT_SECRET: "development-only-secret-not-for-production-use" }],
  ])("a bad %s is named", (name, env) => {
    expect(() => parseConfig(testEnv(env))).toThrow(ConfigError);
    expect(() => parseConfig(testEnv(env))).toThrow(name);
  });

  test.each([
    ["0.0.0.0", "", false],
    ["10.1.2.3", "", false],
    ["127.evil.example", "", false],
    ["localhost", "", true],
    ["127.0.0.2", "", true],
    ["::1", "", true],
    ["", "", false],
    ["0.0.0.0", "development", true],
    ["0.0.0.0", "test", true],
    ["127.0.0.1", "production", false],
  ])("HOST=%s NODE_ENV=%s without a secret starts: %p", (HOST, NODE_ENV, starts) => {
    const secrets = ["", "development-only-secret-not-for-production-use"];
    for (const JWT_SECRET of secrets) {
      const parse = () => parseConfig(testEnv({ HOST, NODE_ENV, JWT_SECRET }));
      if (starts) expect(parse().jwtSecret.length).toBeGreaterThan(30);
      else expect(parse).toThrow("JWT_SECRET");
    }
    const command = () => parseConfig(testEnv({ HOST, NODE_ENV, JWT_SECRET: "" }), { listens: false });
    if (NODE_ENV === "production") expect(command).toThrow("JWT_SECRET");
    else expect(command().host).toBe(HOST === "" ? "0.0.0.0" : HOST);
    if (NODE_ENV !== "production")
      expect(parseConfig(testEnv({ HOST, NODE_ENV, JWT_SECRET: "mine" })).jwtSecret).toBe("mine");
  });

  test("is frozen, and an empty variable is one that is not set", () => {
    const config = parseConfig(testEnv({ PORT: "", NODE_ENV: "production" }));
    expect(config.port).toBe(3000);
    expect(Object.isFrozen(config)).toBe(true);
  });
});
