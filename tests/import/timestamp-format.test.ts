import { expect, test } from "bun:test";
import fc from "fast-check";
import { timestampReader } from "../../src/features/importing/timestamp-format.ts";

const read = (format: string, value: unknown) => {
  const timeMs = timestampReader(format)?.(value) ?? null;
  return timeMs === null ? null : new Date(timeMs).toISOString();
};

test.each([
  ["rfc3339", "2011-02-03T04:05:06Z", "2011-02-03T04:05:06.000Z"],
  ["rfc3339", "2011-02-03 04:05:06.789+02:00", "2011-02-03T02:05:06.789Z"],
  ["rfc3339", "2011-02-03T04:05:06", null],
  ["rfc3339", "3 Feb 2011", null],
  ["auto", "2011-02-03T04:05:06Z", "2011-02-03T04:05:06.000Z"],
  ["auto", "2011-02-03T04:05:06", "2011-02-03T04:05:06.000Z"],
  ["auto", "2011-02-03t04:05z", "2011-02-03T04:05:00.000Z"],
  ["auto", "2011-02-03 04:05:06", "2011-02-03T04:05:06.000Z"],
  ["auto", "2011-02-03 04:05:06.7", "2011-02-03T04:05:06.700Z"],
  ["auto", "2011-02-03 04:05:06.789999", "2011-02-03T04:05:06.789Z"],
  ["auto", "2011-02-03 04:05:06,789", "2011-02-03T04:05:06.789Z"],
  ["auto", "2011-02-03 04:05:06.789012+02", "2011-02-03T02:05:06.789Z"],
  ["auto", "2011-02-03 04:05:06-0330", "2011-02-03T07:35:06.000Z"],
  ["auto", "2011-02-03 04:05:06.789 +05:45", "2011-02-02T22:20:06.789Z"],
  ["auto", "2011-02-03 04:05:06 UTC", "2011-02-03T04:05:06.000Z"],
  ["auto", " 2011-02-03 ", "2011-02-03T00:00:00.000Z"],
  ["auto", "2011-02-29", null],
  ["auto", "2011-02-03 24:00:00", null],
  ["auto", "2011-02-03 04:05:60", null],
  ["auto", "2011-02-03 04:05:06+16", null],
  ["auto", "2011-02-03 04:05:06 CET", null],
  ["auto", "3.2.2011 4:05", null],
  ["auto", 1_296_705_906, "2011-02-03T04:05:06.000Z"],
  ["auto", "1296705906.789", "2011-02-03T04:05:06.789Z"],
  ["auto", "1296705906789", "2011-02-03T04:05:06.789Z"],
  ["auto", 1_296_705_906_789, "2011-02-03T04:05:06.789Z"],
  ["auto", "1296705906789999", "2011-02-03T04:05:06.789Z"],
  ["auto", "1296705906789999999", "2011-02-03T04:05:06.789Z"],
  ["auto", "946684800", "2000-01-01T00:00:00.000Z"],
  ["auto", "4102444799", "2099-12-31T23:59:59.000Z"],
  ["auto", "4102444800", null],
  ["auto", "12345", null],
  ["auto", "", null],
  ["epochMs", 1_296_705_906_789, "2011-02-03T04:05:06.789Z"],
  ["epochMs", "1296705906789", "2011-02-03T04:05:06.789Z"],
  ["epochMs", "-1", null],
  ["epochSeconds", "1296705906.789", "2011-02-03T04:05:06.789Z"],
  ["YYYY-MM-DD HH:mm:ss", "2011-02-03 04:05:06", "2011-02-03T04:05:06.000Z"],
  ["YYYY-MM-DD HH:mm:ss", "2011-2-3 4:05:06", null],
  ["YYYY-MM-DD HH:mm:ss", "2011-02-03 24:00:00", null],
  ["YYYY-MM-DD", "2011-02-28", "2011-02-28T00:00:00.000Z"],
  ["YYYY-MM-DD", "2011-02-29", null],
  ["YYYY-MM-DD", "2011-02-28 ", null],
  ["M/D/YYYY H:mm", "12/1/2010 8:26", "2010-12-01T08:26:00.000Z"],
  ["M/D/YYYY H:mm", "13/1/2010 8:26", null],
  ["D.M.YYYY", "29.2.2012", "2012-02-29T00:00:00.000Z"],
  ["YYYYMMDDTHHmmssSSS", "20110203T040506789", "2011-02-03T04:05:06.789Z"],
])("%s reads %p as %p", (format, value, expected) => {
  expect(read(format, value)).toBe(expected);
});

test.each(["", "iso", "yyyy-MM-dd", "YYYY-MM", "HH:mm", "YYYY-MM-DD DD", "YYYY-MMM-DD", "D/M/YY"])(
  "%p is no format",
  (format) => {
    expect(timestampReader(format)).toBeNull();
  },
);

test("every instant is read back in each unit of the epoch", () => {
  const readAny = timestampReader("auto");
  const times = fc.integer({ min: Date.UTC(2000, 0, 1), max: Date.UTC(2100, 0, 1) - 1 });
  fc.assert(
    fc.property(times, (timeMs) => {
      const texts = [`${Math.floor(timeMs / 1_000)}.${String(timeMs % 1_000).padStart(3, "0")}`];
      texts.push(String(timeMs), `${timeMs}999`, `${timeMs}999999`);
      for (const text of texts) expect(readAny?.(text)).toBe(timeMs);
    }),
  );
});

test("every instant that a pattern can write is read back", () => {
  const readPattern = timestampReader("YYYY-MM-DD HH:mm:ss.SSS");
  const instants = fc.date({
    min: new Date("2000-01-01T00:00:00Z"),
    max: new Date("2100-01-01T00:00:00Z"),
    noInvalidDate: true,
  });
  fc.assert(
    fc.property(instants, (date) => {
      const text = date.toISOString().replace("T", " ").replace("Z", "");
      expect(readPattern?.(text)).toBe(date.getTime());
    }),
  );
});
