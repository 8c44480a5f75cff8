import { classifyFailure, retryRolledBack } from "./failures.ts";

/**
 * Runs `work`, one statement, on all items together. When Postgres refuses them for what they are, the poisonous ones are
 * found by halving and handed to `reject`, so that they stop no other. Throws when Postgres can't be reached, or not in
 * time, which says nothing against an item: then nothing has happened to those that are left.
 */
export async function isolatePoison<T, R>(
  items: readonly T[],
  work: (some: readonly T[]) => Promise<R>,
  reject: (item: T, error: unknown) => Promise<void>,
): Promise<R[]> {
  if (items.length === 0) return [];
  try {
    return [await retryRolledBack(() => work(items), ["retry", "locked"])];
  } catch (error) {
    const kind = classifyFailure(error);
    if (kind === "unavailable" || kind === "retry" || kind === "locked") throw error;
    const [only] = items;
    if (items.length === 1 && only !== undefined) {
      if (kind === "timeout") throw error;
      await reject(only, error);
      return [];
    }
    const middle = Math.ceil(items.length / 2);
    const first = await isolatePoison(items.slice(0, middle), work, reject);
    return [...first, ...(await isolatePoison(items.slice(middle), work, reject))];
  }
}
