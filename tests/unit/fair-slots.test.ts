import { expect, test } from "bun:test";
import { createFairSlots } from "../../src/core/fair-slots.ts";
import type { Priority } from "../../src/core/priority.ts";

const PATIENT_MS = 10_000;

test("one key takes no more than its share, and keys that wait take turns", async () => {
  const slots = createFairSlots({ running: 3, perKey: 2, waiting: 10, waitMs: PATIENT_MS });
  const begun: string[] = [];
  const gates: PromiseWithResolvers<void>[] = [];
  const work = (name: string) => () => {
    begun.push(name);
    const gate = Promise.withResolvers<void>();
    gates.push(gate);
    return gate.promise;
  };
  const all = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"].map((name) =>
    slots.run(name.charAt(0), "normal", work(name)),
  );
  await Promise.resolve();
  expect(begun).toEqual(["a1", "a2", "b1"]);
  for (let n = 0; n < all.length; n += 1) {
    gates[n]?.resolve();
    await all[["a1", "a2", "a3", "a4", "b1", "b2", "c1"].indexOf(begun[n] ?? "")];
    await Promise.resolve();
  }
  expect(begun).toEqual(["a1", "a2", "b1", "a3", "b2", "c1", "a4"]);
  await Promise.all(all);
});

test("who has waited long enough is refused, and its work never begins", async () => {
  const slots = createFairSlots({ running: 1, perKey: 1, waiting: 2, waitMs: 20 });
  const gate = Promise.withResolvers<string>();
  const first = slots.run("a", "normal", () => gate.promise);
  let begun = 0;
  const late = [1, 2, 3].map((n) =>
    slots.run(`${n}`, "normal", async () => {
      begun += 1;
    }),
  );
  for (const { status, reason } of (await Promise.allSettled(late)) as PromiseRejectedResult[])
    expect([status, reason.code]).toEqual(["rejected", "unavailable"]);
  gate.resolve("done");
  expect(await first).toBe("done");
  expect(begun).toBe(0);
  expect(await slots.run("a", "normal", async () => "next")).toBe("next");
  await expect(slots.run("a", "normal", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(await slots.run("b", "normal", async () => "still free")).toBe("still free");
});

test("a full line gives the place of a lower one to a higher one, and takes who has less than a share of it", async () => {
  const slots = createFairSlots({ running: 1, perKey: 1, waiting: 4, waitMs: PATIENT_MS });
  const gate = Promise.withResolvers<void>();
  const run = (key: string, priority: Priority) =>
    slots
      .run(key, priority, () => gate.promise)
      .then(
        () => "done",
        (error) => error.code,
      );
  const rush = Array.from({ length: 7 }, () => run("shop", "normal"));
  const staff = run("shop", "high");
  const other = run("other", "low");
  gate.resolve();
  expect(await Promise.all(rush)).toEqual([
    ...["done", "done", "done", "done"],
    ...["unavailable", "unavailable", "unavailable"],
  ]);
  expect([await staff, await other]).toEqual(["done", "done"]);
});
