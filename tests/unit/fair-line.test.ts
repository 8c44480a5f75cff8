/** Whose turn it is in a queue of four priorities and many tenants, and who gives way. */
import { describe, expect, test } from "bun:test";
import { createFairLine, type FairLine } from "../../src/core/fair-line.ts";
import { PRIORITIES, type Priority } from "../../src/core/priority.ts";

const WAIT_MS = 60_000;
const anybody = () => true;

function createLine(nowMs: () => number = () => 0, waitMs = WAIT_MS) {
  const line = createFairLine({ waitMs, refuse: (priority) => new Error(`refused ${priority}`), nowMs });
  const log: string[] = [];
  /** Waits, and writes down what becomes of it. */
  const wait = (name: string, priority: Priority, key = "shop") => {
    void line.wait(key, priority).then(
      () => log.push(name),
      (error: Error) => log.push(`${name} ${error.message}`),
    );
  };
  return { line, log, wait };
}

async function startAll(line: FairLine, turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) {
    expect(line.startNext(anybody)).toBeDefined();
    await Promise.resolve();
  }
}

const countsOf = (log: readonly string[]) =>
  PRIORITIES.map((priority) => log.filter((name) => name === priority).length);

describe("turns", () => {
  test("go to the higher priority first, by weight, and every one has some", async () => {
    const { line, log, wait } = createLine();
    for (const priority of PRIORITIES) for (let n = 0; n < 50; n += 1) wait(priority, priority);
    await startAll(line, 15);
    expect(log[0]).toBe("critical");
    expect(countsOf(log)).toEqual([1, 2, 4, 8]);
    await startAll(line, 15);
    expect(countsOf(log)).toEqual([2, 4, 8, 16]);
    await startAll(line, 170);
    expect(countsOf(log)).toEqual([50, 50, 50, 50]);
    expect([line.startNext(anybody), line.size()]).toEqual([undefined, { waiting: 0, keys: 0 }]);
  });

  test("that nobody waited for are not caught up on", async () => {
    const { line, log, wait } = createLine();
    for (let n = 0; n < 100; n += 1) wait("high", "high");
    await startAll(line, 40);
    for (let n = 0; n < 100; n += 1) wait("low", "low");
    await startAll(line, 10);
    expect(countsOf(log.slice(40))).toEqual([2, 0, 8, 0]);
  });

  test("that a key may not take yet are not caught up on either", async () => {
    const { line, log, wait } = createLine();
    for (let n = 0; n < 100; n += 1) wait("low", "low", "busy");
    for (let n = 0; n < 100; n += 1) wait("high", "high");
    for (let n = 0; n < 60; n += 1) line.startNext((key) => key !== "busy");
    await startAll(line, 20);
    expect(countsOf(log.slice(60))).toEqual([4, 0, 16, 0]);
  });

  test("of one priority go round the keys, whatever else those have", async () => {
    const { line, log, wait } = createLine();
    for (let n = 0; n < 40; n += 1) {
      wait("a high", "high", "a");
      wait("a", "low", "a");
      wait("b", "low", "b");
    }
    await startAll(line, 40);
    const lows = log.filter((name) => !name.includes("high"));
    expect(lows).toEqual(["a", "b", "a", "b", "a", "b", "a", "b"]);
  });

  test("go to who has waited long, the highest first, so that it is the lower that waits in vain", async () => {
    let nowMs = 0;
    const { line, log, wait } = createLine(() => nowMs);
    for (let n = 0; n < 30; n += 1) for (const priority of PRIORITIES) wait(priority, priority);
    nowMs = WAIT_MS / 2 - 1;
    await startAll(line, 15);
    expect(countsOf(log)).toEqual([1, 2, 4, 8]);
    nowMs += 1;
    await startAll(line, 22);
    expect(countsOf(log)).toEqual([1, 2, 4, 30]);
    await startAll(line, 26);
    expect(countsOf(log)).toEqual([1, 2, 30, 30]);
  });
});

describe("who gives way", () => {
  test("is the newest of the lowest priority, of a key that may", async () => {
    const { line, log, wait } = createLine();
    wait("low 1", "low");
    wait("low 2", "low");
    wait("normal", "normal");
    wait("spared", "low", "other");
    const shopOnly = (key: string) => key === "shop";
    for (let n = 0; n < 3; n += 1) expect(line.giveWay("high", shopOnly)).toBe(true);
    expect(line.giveWay("high", shopOnly)).toBe(false);
    expect(line.giveWay("low", anybody)).toBe(false);
    await Promise.resolve();
    expect(log).toEqual(["low 2 refused low", "low 1 refused low", "normal refused normal"]);
    expect(line.startNext(anybody)).toBe("other");
  });

  test("hears of it at once, and so does who has waited for too long", async () => {
    const { line } = createLine(() => 0, 10);
    const heard: string[] = [];
    const given = line.wait("shop", "low", () => heard.push("low"));
    line.giveWay("critical", anybody);
    expect(heard).toEqual(["low"]);
    await expect(given).rejects.toThrow("refused low");
    await expect(line.wait("shop", "critical", () => heard.push("critical"))).rejects.toThrow(
      "refused critical",
    );
    expect(heard).toEqual(["low", "critical"]);
    expect(line.size()).toEqual({ waiting: 0, keys: 0 });
  });
});
