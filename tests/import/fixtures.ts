import { join } from "node:path";
import type { Sql } from "postgres";
import { verifyTenant } from "../../src/features/rollups/index.ts";
import type { TestApi, TestTenant } from "../factories.ts";
import { runFootfall, temporaryDirectory } from "../harness.ts";

export const SAMPLE = join(import.meta.dir, "../data/online-retail-sample.csv");

/** Writes a file of the test file's own and returns its path. */
export type WriteFile = (name: string, content: string | Uint8Array) => Promise<string>;

export function createFiles(): WriteFile {
  const directory = temporaryDirectory("import");
  return async (name, content) => {
    const path = join(directory, name);
    await Bun.write(path, content);
    return path;
  };
}

/** Runs `footfall import` with the stores of `api`. */
export function importFile(api: TestApi, { slug }: TestTenant, file: string, ...options: string[]) {
  return runFootfall(["import", file, "--tenant", slug, ...options], api.env);
}

export const ROLLUP_TABLES = [
  "product_daily_stats",
  "product_period_stats",
  "user_daily_stats",
  "buyer_daily_stats",
  "session_daily_stats",
  "event_hourly_stats",
  "event_daily_stats",
  "property_daily_stats",
] as const;

/** One hash a rollup table over all rows of a tenant. */
export async function hashRollups(sql: Sql, tenantId: string): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const table of ROLLUP_TABLES) {
    const [row] = await sql<{ hash: string }[]>`
      select md5(coalesce(string_agg(kept::text, e'\n' order by kept::text collate "C"), '')) as hash
      from ${sql(table)} kept where tenant_id = ${tenantId}`;
    hashes[table] = row?.hash ?? "";
  }
  return hashes;
}

/** What `footfall verify` finds: differing rows and batches that are not rolled up. */
export async function verify({ deps }: TestApi, tenantId: string) {
  const { timeZone } = await deps.readTenantSettings(tenantId);
  const { differing, differences, waiting, dead } = await verifyTenant(
    deps.db.transactions,
    { tenantId, timeZone },
    {},
  );
  return { differing, differences, waiting, dead };
}

export const CLEAN = { differing: 0, differences: [], waiting: 0, dead: 0 };

/** Sums as plain decimal text, without trailing zeros. */
export async function readFigures(sql: Sql, tenantId: string) {
  const pairs = (rows: { key: string; value: string }[]) => rows.map(({ key, value }) => [key, value]);
  const months = await sql<{ key: string; value: string }[]>`
    select to_char(day, 'YYYY-MM') as key, trim_scale(sum(revenue))::text as value from product_daily_stats
    where tenant_id = ${tenantId} group by 1 order by 1`;
  const [total] = await sql<{ value: string }[]>`
    select trim_scale(sum(revenue))::text as value from event_hourly_stats where tenant_id = ${tenantId}`;
  const products = await sql<{ key: string; value: string }[]>`
    select product_id as key, sum(units)::text as value from product_daily_stats
    where tenant_id = ${tenantId} group by 1 order by sum(units) desc, product_id collate "C"`;
  const countries = await sql<{ key: string; value: string }[]>`
    select value as key, trim_scale(sum(revenue))::text as value from property_daily_stats
    where tenant_id = ${tenantId} and property = 'country' group by 1 order by sum(revenue) desc`;
  return {
    total: total?.value,
    months: Object.fromEntries(pairs(months)),
    products: pairs(products),
    countries: pairs(countries),
  };
}

export async function countEvents(sql: Sql, tenantId: string) {
  const [row] = await sql`
    select count(*)::int as events, count(*) filter (where type = 'refund')::int as refunds,
      count(*) filter (where type = 'adjustment')::int as adjustments,
      count(*) filter (where user_id is null)::int as anonymous, count(distinct user_id)::int as users,
      count(distinct session_id)::int as sessions, count(distinct product_id)::int as products
    from events where tenant_id = ${tenantId}`;
  return { ...row };
}
