/** The order in which followers were told of products, and what must hold of it. */
import { expect } from "bun:test";

/** A told change of a product: the version that it made. */
export interface Told {
  productId: string;
  version: number;
}

interface ProductState {
  version?: number;
}

/**
 * The change that an event tells; null for an event without a version, such as a crossing of stock.
 */
export function toldBy(topic: string, subjectId: string, data: unknown): Told | null {
  if (topic === "product.lowstock") return null;
  const { before, after } = data as { before: ProductState | null; after: ProductState | null };
  const version = after?.version ?? (before?.version ?? Number.NaN) + 1;
  return { productId: subjectId, version };
}

/** For each product, the changes that were told after a later one. */
export function findSwapped(told: readonly Told[]): Told[] {
  const latest = new Map<string, number>();
  return told.filter(({ productId, version }) => {
    const before = latest.get(productId) ?? 0;
    latest.set(productId, Math.max(before, version));
    return version < before;
  });
}

/** A change over HTTP that was answered. */
export interface Answered extends Told {
  startedAtMs: number;
  answeredAtMs: number;
}

/** Changes that began after another one of the tenant was answered, but were told before it. */
export function findOvertaking(told: readonly Told[], answered: readonly Answered[]): Told[] {
  const nameOf = ({ productId, version }: Told) => `${productId} ${version}`;
  const times = new Map<string, Answered>();
  // A change that changed nothing is answered with the version of another. Of both, the earlier one
  // is safe to compare.
  for (const one of answered.toSorted((a, b) => b.startedAtMs - a.startedAtMs)) times.set(nameOf(one), one);
  let earliestAnswerMs = Number.POSITIVE_INFINITY;
  return told.toReversed().filter((one) => {
    const time = times.get(nameOf(one));
    if (!time) return false;
    const overtook = time.startedAtMs > earliestAnswerMs;
    earliestAnswerMs = Math.min(earliestAnswerMs, time.answeredAtMs);
    return overtook;
  });
}

/** Each of `wanted` once, and of each product in the order of its versions. */
export function expectOnceAndInOrder(told: readonly Told[], wanted: readonly Told[], where: string): void {
  const names = (list: readonly Told[]) => list.map(({ productId, version }) => `${productId} ${version}`);
  const seen = new Set(names(told));
  const lost = names(wanted).filter((name) => !seen.has(name));
  expect(
    {
      lost,
      doubled: told.length - seen.size,
      unknown: seen.size + lost.length - wanted.length,
      swapped: findSwapped(told),
    },
    where,
  ).toEqual({ lost: [], doubled: 0, unknown: 0, swapped: [] });
}
