/**
 * How the walk compares what README shows with what is printed, and how it reads README's blocks.
 */
import { expect, test } from "bun:test";
import { mismatch, readBlocks, readExpectations, toScript } from "../dev/readme.ts";

const printed = '{"id":"01-x","totals":{"events":3,"views":1},"items":[{"a":1,"b":2},{"a":2}],"next":null}';

test("a shape fits what has it, with `…` for any value, for more of them, and for some characters", () => {
  for (const shape of [
    printed,
    '{"id":"…",…}',
    '{"id":"01-…","totals":{"events":3,…},"items":[{"a":1,…},…],"next":null}',
    '{"id":…,"totals":{…},"items":[…],"next":…}',
    '{"items":[{"a":1,…},{"a":2}],…}',
  ])
    expect([shape, mismatch(shape, printed)]).toEqual([shape, null]);
  expect(mismatch("event: summary", "retry: 1\n\nevent: summary\ndata: 1")).toBeNull();
});

test("everything else is said, with the place", () => {
  for (const [shape, problem] of [
    ['{"id":"02-…",…}', "answer.id is"],
    ['{"totals":{"events":4,…},…}', "answer.totals.events is 3 instead of 4"],
    ['{"totals":{"events":3},…}', "answer.totals has 1 more"],
    ['{"items":[{"a":1,…}],…}', "answer.items has 1 more"],
    ['{"absent":…,…}', "answer.absent is undefined"],
    ['{"next":[…],…}', "answer.next is null"],
    ['{"id":"…"}', "answer has 3 more"],
  ] as const)
    expect(mismatch(shape, printed)).toContain(problem);
  expect(mismatch("{…}", "not JSON")).toBe("no JSON");
  expect(mismatch("event: summary", "event: summaries")).toBe('no line "event: summary"');
});

test("commands keep their lines, the reader's values are put in, and what is left out says why", () => {
  const readme =
    "# Title\n```sh\nURL=https://a.example   # yours\ncurl $URL\n# → {…}\n```\n\n<!-- not walked: a reason -->\n```sh\nx\n```\n";
  const blocks = readBlocks(readme);
  expect(blocks.map(({ line, leftOut }) => [line, leftOut])).toEqual([
    [3, null],
    [10, "a reason"],
  ]);
  expect(toScript(blocks.slice(0, 1), { URL: "http://mine" })).toBe(
    "\n\nURL=http://mine\ncurl $URL\n# → {…}",
  );
  expect(() => toScript(blocks, {})).toThrow("no value for URL");
  expect(readExpectations(blocks)).toEqual([{ line: 5, text: "{…}" }]);
});
