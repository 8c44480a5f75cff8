import { expect, test } from "bun:test";
import fc from "fast-check";
import { createRowIdentities, FingerprintSet } from "../../src/features/importing/row-identity.ts";

test("equal rows are numbered in the order of their coming, different ones keep apart", () => {
  const identities = createRowIdentities();
  const ids = ["a", "b", "a", "a", "b", ""].map((row) => identities.messageIdOf(row));
  const [hashA, hashB] = [ids[0]?.slice(4, 36), ids[1]?.slice(4, 36)];
  expect(hashA).toMatch(/^[0-9a-f]{32}$/);
  expect(ids.slice(0, 5)).toEqual([
    `imp:${hashA}:1`,
    `imp:${hashB}:1`,
    `imp:${hashA}:2`,
    `imp:${hashA}:3`,
    `imp:${hashB}:2`,
  ]);
  expect(new Set(ids).size).toBe(6);
});

test("the same rows in another order get the same ids", () => {
  const rows = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 30 });
  fc.assert(
    fc.property(rows, (some) => {
      const idsOf = (list: string[]) => {
        const identities = createRowIdentities();
        return list.map((row) => identities.messageIdOf(row)).sort();
      };
      expect(idsOf(some.toReversed())).toEqual(idsOf(some));
    }),
  );
});

test("the set of fingerprints is a set, also after it has grown and where numbers crowd", () => {
  const spread = new FingerprintSet();
  const isNew = (n: number) => spread.add(n * 45_000_000_000);
  for (let n = 0; n < 100_000; n += 1) expect(isNew(n)).toBe(true);
  for (let n = 0; n < 100_000; n += 1) expect(isNew(n)).toBe(false);

  const crowded = new FingerprintSet();
  for (let n = 2 ** 16 - 100; n < 2 ** 16 + 100; n += 1) expect(crowded.add(n)).toBe(true);
  for (let n = 2 ** 16 - 100; n < 2 ** 16 + 100; n += 1) expect(crowded.add(n)).toBe(false);
  expect([crowded.add(0), crowded.add(0), crowded.add(2 ** 52 - 1), crowded.add(2 ** 52 - 1)]).toEqual([
    true,
    false,
    true,
    false,
  ]);
});
