import { classifyFailure, retryRolledBack } from "./failures.ts";

export interface OfTenant {
  tenantId: string;
}

/**
 * A tenant with more poison than this is left alone: finding all of it would cost later tenants
 * their time.
 */
const PATIENCE = 3;

/**
 * Runs `work`, one statement, on all items together. When Postgres refuses them, halving finds the
 * tenants at which it fails, and they go to `reject`. Throws when Postgres can't be reached or
 * keeps deadlocking, which says nothing against a tenant; then nothing has happened to the items
 * that are left.
 */
export async function isolateTenants<T extends OfTenant, R>(
  items: readonly T[],
  work: (some: readonly T[]) => Promise<R>,
  reject: (ofTenant: readonly T[], error: unknown) => Promise<void>,
): Promise<R[]> {
  const tenants = [...Map.groupBy(items, ({ tenantId }) => tenantId).values()];
  return narrowDown(tenants, (some) => work(some.flat()), reject);
}

/**
 * The same down to the poisonous items: first by tenant, then within each. What is left of a tenant
 * after `PATIENCE` of them is neither done nor rejected: it waits for the next try. A lone item
 * that takes too long throws, too.
 */
export async function isolatePoison<T extends OfTenant, R>(
  items: readonly T[],
  work: (some: readonly T[]) => Promise<R>,
  reject: (item: T, error: unknown) => Promise<void>,
): Promise<R[]> {
  const within: R[] = [];
  const others = await isolateTenants(items, work, async (own, error) => {
    let found = 0;
    const rejectOne = async (item: T, failure: unknown) => {
      if (classifyFailure(failure) === "timeout") throw failure;
      found += 1;
      await reject(item, failure);
    };
    within.push(...(await halve(own, error, work, rejectOne, () => found < PATIENCE)));
  });
  return [...others, ...within];
}

async function narrowDown<T, R>(
  items: readonly T[],
  work: (some: readonly T[]) => Promise<R>,
  reject: (item: T, error: unknown) => Promise<void>,
  goOn = () => true,
): Promise<R[]> {
  if (items.length === 0 || !goOn()) return [];
  try {
    return [await retryRolledBack(() => work(items), ["retry", "locked"])];
  } catch (error) {
    return halve(items, error, work, reject, goOn);
  }
}

/** Of items that failed together. */
async function halve<T, R>(
  items: readonly T[],
  error: unknown,
  work: (some: readonly T[]) => Promise<R>,
  reject: (item: T, error: unknown) => Promise<void>,
  goOn: () => boolean,
): Promise<R[]> {
  const kind = classifyFailure(error);
  if (kind === "unavailable" || kind === "retry" || kind === "locked") throw error;
  const [only] = items;
  if (items.length === 1 && only !== undefined) {
    await reject(only, error);
    return [];
  }
  const middle = Math.ceil(items.length / 2);
  const first = await narrowDown(items.slice(0, middle), work, reject, goOn);
  return [...first, ...(await narrowDown(items.slice(middle), work, reject, goOn))];
}
