/**
 * What it costs to find poison, counted in statements: each one that fails takes the time of those
 * who wait.
 */
import { describe, expect, test } from "bun:test";
import { isolatePoison, isolateTenants } from "../../src/db/isolate-poison.ts";

interface Item {
  tenantId: string;
  n: number;
}

/** As Postgres refuses a value. */
function refusal(code = "22023"): Error {
  return Object.assign(new Error("refused"), { code });
}

/** `each` items of every tenant, as they come: one of each in turn. */
function itemsOf(tenants: number, each: number): Item[] {
  return Array.from({ length: tenants * each }, (_, n) => ({ tenantId: `t${n % tenants}`, n }));
}

function createWork(isPoison: (item: Item) => boolean, code?: string) {
  const tried: (readonly Item[])[] = [];
  const done: Item[] = [];
  return {
    tried,
    done,
    work: async (items: readonly Item[]) => {
      tried.push(items);
      if (items.some(isPoison)) throw refusal(code);
      done.push(...items);
      return items.length;
    },
  };
}

const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);

describe("by tenant", () => {
  test("without poison it is one statement", async () => {
    const { work, tried } = createWork(() => false);
    expect(await isolateTenants(itemsOf(50, 4), work, async () => {})).toEqual([200]);
    expect(tried).toHaveLength(1);
  });

  test("one tenant that is all poison, among fifty: found whole, by two statements a halving", async () => {
    const { work, tried } = createWork(({ tenantId }) => tenantId === "t31");
    const rejected: (readonly Item[])[] = [];
    const counts = await isolateTenants(itemsOf(50, 4), work, async (own) => void rejected.push(own));
    expect(sum(counts)).toBe(196);
    expect(rejected.map((own) => own.map(({ tenantId }) => tenantId))).toEqual([Array(4).fill("t31")]);
    expect(tried.length).toBeLessThanOrEqual(1 + 2 * Math.ceil(Math.log2(50)));
  });

  test.each(["57P01", "40P01", "55P03"])("%s says nothing against a tenant", async (code) => {
    const { work } = createWork(({ tenantId }) => tenantId === "t1", code);
    const rejected: unknown[] = [];
    await expect(
      isolateTenants(itemsOf(3, 1), work, async (own) => void rejected.push(own)),
    ).rejects.toThrow();
    expect(rejected).toEqual([]);
  });
});

describe("by item", () => {
  test("one among two hundred of fifty tenants", async () => {
    const { work, tried, done } = createWork(({ n }) => n === 131);
    const rejected: number[] = [];
    await isolatePoison(itemsOf(50, 4), work, async ({ n }) => void rejected.push(n));
    expect(rejected).toEqual([131]);
    expect(done).toHaveLength(199);
    // Tenants first, then the four items of the one.
    expect(tried.length).toBeLessThanOrEqual(1 + 2 * Math.ceil(Math.log2(50)) + 2 * 2);
  });

  test("a tenant that is all poison is given up after three, and every other is done", async () => {
    const { work, tried, done } = createWork(({ tenantId }) => tenantId === "t7");
    const rejected: Item[] = [];
    await isolatePoison(itemsOf(10, 100), work, async (item) => void rejected.push(item));
    expect(rejected.map(({ tenantId }) => tenantId)).toEqual(["t7", "t7", "t7"]);
    expect(done).toHaveLength(900);
    // With every item of a hundred tried, it would be two hundred.
    expect(tried.length).toBeLessThanOrEqual(1 + 2 * 4 + 2 * 7 + 4);
  });

  test("a lone item that takes too long is not rejected", async () => {
    const { work } = createWork(({ n }) => n === 2, "57014");
    const rejected: Item[] = [];
    await expect(
      isolatePoison(itemsOf(2, 2), work, async (item) => void rejected.push(item)),
    ).rejects.toThrow();
    expect(rejected).toEqual([]);
  });
});
