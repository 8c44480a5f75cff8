/** A range put together of days, sixths of months and months is that range, and short. */
import { expect, test } from "bun:test";
import { addDays, countDays, type Day, nextMonth } from "../../src/core/days.ts";
import { type CoverPart, coverRange } from "../../src/features/analytics/cover.ts";

const ENDS = { day: (start: Day) => addDays(start, 1), sixth: endOfSixth, month: nextMonth };

/** Day by day, how often each is counted. */
function expand(cover: readonly CoverPart[]): Map<Day, number> {
  const counted = new Map<Day, number>();
  for (const { period, sign, starts } of cover) {
    for (const start of starts) {
      const end = ENDS[period](start);
      for (let day = start; day < end; day = addDays(day, 1)) {
        const times = (counted.get(day) ?? 0) + (sign === "+" ? 1 : -1);
        if (times === 0) counted.delete(day);
        else counted.set(day, times);
      }
    }
  }
  return counted;
}

function endOfSixth(start: Day): Day {
  expect(["01", "06", "11", "16", "21", "26"]).toContain(start.slice(8));
  return start.endsWith("26") ? nextMonth(start) : addDays(start, 5);
}

function daysOf(from: Day, days: number): Map<Day, number> {
  return new Map(Array.from({ length: days }, (_, index) => [addDays(from, index), 1]));
}

const sizeOf = (cover: readonly CoverPart[]) => cover.reduce((sum, { starts }) => sum + starts.length, 0);

/** From the winter of a leap year on, so that all lengths of months occur. */
const STARTS = Array.from({ length: 430 }, (_, index) => addDays("2024-01-01", index));

test.each([
  [1, 1],
  [7, 6],
  [30, 10],
  [90, 12],
  [365, 21],
])("%d days are counted once each, by at most %d periods", (days, most) => {
  for (const from of STARTS) {
    const cover = coverRange({ from, to: addDays(from, days - 1) });
    const sorted = [...expand(cover)].sort(([a], [b]) => (a < b ? -1 : 1));
    expect(new Map(sorted)).toEqual(daysOf(from, days));
    expect(sizeOf(cover)).toBeLessThanOrEqual(most);
  }
});

test("whole months are months; a month less a day is a month and a day taken off", () => {
  const [from, to] = ["2025-01-01", "2025-12-31"];
  expect(coverRange({ from, to })).toEqual([
    {
      period: "month",
      sign: "+",
      starts: Array.from(daysOf(from, countDays(from, to)).keys()).filter((day) => day.endsWith("-01")),
    },
  ]);
  expect(coverRange({ from: "2025-06-01", to: "2025-06-29" })).toEqual([
    { period: "month", sign: "+", starts: ["2025-06-01"] },
    { period: "day", sign: "-", starts: ["2025-06-30"] },
  ]);
});
