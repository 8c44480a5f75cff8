import type { Sql } from "../../db/client.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";

interface Asking {
  tenantId: string;
  productIds: ReadonlySet<string>;
  resolve(prices: Map<string, string>): void;
  reject(error: unknown): void;
}

/**
 * Prices of products by id, as exact decimal text, also of deleted ones: their sales may come late.
 * One query runs at a time and later callers share the next one, so a rush of sales without prices
 * costs a query every few milliseconds. Rejects with `unavailable` while Postgres is away.
 */
export function createPriceLookUp(sql: Sql, guard: Pick<ReadGuard, "lookUp">) {
  let waiting: Asking[] = [];
  let asking = false;

  async function askForAll(): Promise<void> {
    asking = true;
    while (waiting.length > 0) {
      const group = waiting;
      waiting = [];
      try {
        const found = await guard.lookUp(() => selectPrices(sql, group));
        for (const { tenantId, resolve } of group) resolve(found.get(tenantId) ?? new Map());
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    asking = false;
  }

  return (tenantId: string, productIds: ReadonlySet<string>): Promise<ReadonlyMap<string, string>> =>
    new Promise((resolve, reject) => {
      waiting.push({ tenantId, productIds, resolve, reject });
      if (!asking) void askForAll();
    });
}

/** By primary key, one probe each, whatever the statistics say. */
async function selectPrices(
  sql: Sql,
  wanted: readonly Pick<Asking, "tenantId" | "productIds">[],
): Promise<Map<string, Map<string, string>>> {
  const pairs = wanted.flatMap(({ tenantId, productIds }) => [...productIds].map((id) => [tenantId, id]));
  const rows = await sql<{ tenantId: string; id: string; price: string }[]>`
    select wanted.tenant_id as "tenantId", wanted.id, found.price
    from unnest(${pairs.map(([tenantId]) => tenantId ?? "")}::uuid[], ${pairs.map(([, id]) => id ?? "")}::text[])
      as wanted(tenant_id, id)
    cross join lateral (
      select price::text from products p where p.tenant_id = wanted.tenant_id and p.id = wanted.id offset 0
    ) found`;
  const prices = new Map<string, Map<string, string>>();
  for (const { tenantId, id, price } of rows) {
    const ofTenant = prices.get(tenantId) ?? new Map<string, string>();
    prices.set(tenantId, ofTenant.set(id, price));
  }
  return prices;
}
