/** Days, ranges and time zones. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ttlSeconds } from "../../src/cache/tiers.ts";
import {
  addDays,
  countDays,
  dayInZone,
  isDay,
  isTimeZone,
  monthsBetween,
  nextMonth,
  toDay,
} from "../../src/core/days.ts";
import { AppError } from "../../src/core/errors.ts";
import { hoursAlign, resolveRange } from "../../src/features/analytics/range.ts";

const DAY_MS = 86_400_000;
const anyDay = fc.integer({ min: 0, max: 40_000 }).map((n) => toDay(Date.UTC(1990, 0, 1) + n * DAY_MS));

describe("days", () => {
  test.each(["2026-11-21", "2024-02-29", "2000-02-29", "1999-12-31", "1900-01-01", "8999-12-31"])(
    "%s is one",
    (text) => {
      expect(isDay(text)).toBe(true);
    },
  );

  test.each([
    "2026-02-29",
    "1900-02-29",
    "1899-12-31",
    "9000-01-01",
    "9999-12-30",
    "0001-01-01",
    "2026-13-01",
    "2026-00-10",
    "2026-1-1",
    "20261121",
    "2026-11-21T00:00:00Z",
    " 2026-11-21",
    "",
    "٢٠٢٦-١١-٢١",
  ])("%p is none", (text) => {
    expect(isDay(text)).toBe(false);
  });

  test("adding and counting undo each other", () => {
    fc.assert(
      fc.property(anyDay, fc.integer({ min: 0, max: 5_000 }), (day, days) => {
        const later = addDays(day, days);
        expect(isDay(later)).toBe(true);
        expect(addDays(later, -days)).toBe(day);
        expect(countDays(day, later)).toBe(days + 1);
      }),
    );
  });

  test("months between two days are all those that hold one of them", () => {
    fc.assert(
      fc.property(anyDay, fc.integer({ min: 0, max: 400 }), (from, days) => {
        const each = Array.from({ length: days + 1 }, (_, n) => `${addDays(from, n).slice(0, 7)}-01`);
        expect(monthsBetween(from, addDays(from, days))).toEqual([...new Set(each)]);
      }),
      { numRuns: 30 },
    );
    expect(monthsBetween("2026-12-31", "2027-01-01")).toEqual(["2026-12-01", "2027-01-01"]);
    expect(monthsBetween("2026-02-01", "2026-01-31")).toEqual([]);
    expect(nextMonth("2026-12-15")).toBe("2027-01-01");
    expect(nextMonth("2024-01-31")).toBe("2024-02-01");
  });

  test("an invalid instant has no day", () => {
    expect(toDay(Number.NaN)).toBe("");
  });
});

describe("time zones", () => {
  test("midnight is where the zone has it, also on the days on which clocks change", () => {
    const at = (text: string) => Date.parse(text);
    expect(dayInZone(at("2026-10-24T21:59:59.999Z"), "Europe/Berlin")).toBe("2026-10-24");
    expect(dayInZone(at("2026-10-24T22:00:00Z"), "Europe/Berlin")).toBe("2026-10-25");
    expect(dayInZone(at("2026-10-25T22:59:59Z"), "Europe/Berlin")).toBe("2026-10-25");
    expect(dayInZone(at("2026-10-25T23:00:00Z"), "Europe/Berlin")).toBe("2026-10-26");
    expect(dayInZone(at("2026-11-20T18:29:59Z"), "Asia/Kolkata")).toBe("2026-11-20");
    expect(dayInZone(at("2026-11-20T18:30:00Z"), "Asia/Kolkata")).toBe("2026-11-21");
    expect(dayInZone(at("2026-11-20T10:00:00Z"), "Pacific/Kiritimati")).toBe("2026-11-21");
    expect(dayInZone(at("2026-11-20T10:59:00Z"), "Pacific/Pago_Pago")).toBe("2026-11-19");
  });

  test.each(["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])("%s is one", (name) => {
    expect(isTimeZone(name)).toBe(true);
  });

  test.each([
    "",
    "Mars/Olympus",
    "+02:00",
    "Europe/Berlin'; --",
    "Europe/Berlin\0",
    "../etc/localtime",
    "UTC ",
    "CET",
    "EST",
    "toString",
  ])("%p is none", (name) => {
    expect(isTimeZone(name)).toBe(false);
  });

  test("hours of two zones align when both have whole hours, all through the range", () => {
    const range = (from: string, to: string, timeZone: string) => ({ from, to, timeZone });
    expect(hoursAlign(range("2026-10-01", "2026-11-30", "Europe/Berlin"), "America/New_York")).toBe(true);
    expect(hoursAlign(range("2026-10-01", "2026-11-30", "Europe/Berlin"), "Asia/Kolkata")).toBe(false);
    expect(hoursAlign(range("2026-10-01", "2026-11-30", "Asia/Kolkata"), "Asia/Colombo")).toBe(true);
    expect(hoursAlign(range("2026-10-01", "2026-11-30", "Asia/Kathmandu"), "Asia/Kolkata")).toBe(false);
    // Lord Howe moves by half an hour, on 4 October and on 5 April.
    expect(hoursAlign(range("2026-12-06", "2026-12-20", "Australia/Lord_Howe"), "UTC")).toBe(true);
    expect(hoursAlign(range("2026-10-02", "2026-10-20", "Australia/Lord_Howe"), "UTC")).toBe(false);
    expect(hoursAlign(range("2026-03-20", "2026-04-20", "Australia/Lord_Howe"), "UTC")).toBe(false);
    expect(hoursAlign(range("2026-06-01", "2026-06-30", "Australia/Lord_Howe"), "UTC")).toBe(false);
  });
});

describe("ranges", () => {
  const now = Date.parse("2026-11-21T23:30:00Z");

  test("end today, in the zone asked for", () => {
    expect(resolveRange({}, "UTC", now)).toEqual({ from: "2026-10-23", to: "2026-11-21", timeZone: "UTC" });
    expect(resolveRange({ days: 1 }, "Europe/Berlin", now)).toMatchObject({
      from: "2026-11-22",
      to: "2026-11-22",
    });
    expect(resolveRange({ days: 7 }, "America/New_York", now)).toMatchObject({
      from: "2026-11-15",
      to: "2026-11-21",
    });
  });

  test("or are what was asked for", () => {
    const given = { startDate: "2024-02-28", endDate: "2024-03-01" };
    expect(resolveRange(given, "UTC", now)).toMatchObject({ from: "2024-02-28", to: "2024-03-01" });
    expect(countDays("2024-02-28", "2024-03-01")).toBe(3);
  });

  test.each([
    [{ startDate: "2026-01-01" }, "endDate is required with startDate"],
    [{ endDate: "2026-01-01" }, "startDate is required with endDate"],
    [{ startDate: "2026-01-02", endDate: "2026-01-01" }, "endDate is before startDate"],
    [{ startDate: "2020-01-01", endDate: "2026-01-01" }, "endDate is more than"],
    [{ days: 7, startDate: "2026-01-01", endDate: "2026-01-02" }, "days goes without startDate and endDate"],
  ])("%p is refused", (query, finding) => {
    try {
      resolveRange(query, "UTC", now);
      throw new Error("not refused");
    } catch (error) {
      expect(error).toBeInstanceOf(AppError);
      expect((error as AppError).message).toStartWith(`The range is not valid: ${finding}`);
      expect((error as AppError).errors?.[0]?.path).toBe(finding.split(" ")[0] ?? "");
    }
  });

  test("the longer ago, the longer an answer is kept", () => {
    const hour = 3_600_000;
    const within = (age: number) => ttlSeconds(now - age, now);
    for (let n = 0; n < 50; n += 1) {
      for (const age of [-hour, 0, hour - 1]) expect(within(age)).toBeWithin(24, 31);
      for (const age of [hour, 24 * hour, 7 * 24 * hour - 1]) expect(within(age)).toBeWithin(240, 301);
      expect(within(7 * 24 * hour)).toBeWithin(2_880, 3_601);
    }
  });
});
