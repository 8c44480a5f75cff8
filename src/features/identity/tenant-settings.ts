import { eq } from "drizzle-orm";
import { AppError } from "../../core/errors.ts";
import { createRateTable, type RateTable } from "../../core/exchange-rates.ts";
import type { Orm } from "../../db/client.ts";
import { isAway } from "../../db/failures.ts";
import { tenants } from "../../db/schema/identity.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";

/** What ingest and analytics need to know of a tenant on every request. */
export interface TenantSettings {
  timeZone: string;
  currency: string;
  trustedSales: boolean;
  exchangeRates: RateTable;
  eventRetentionDays: number | null;
  /** Those that breakdowns know. */
  properties: readonly string[];
}

const REMEMBER_MS = 5_000;
const MAX_REMEMBERED = 10_000;

export type ReadTenantSettings = (tenantId: string) => Promise<TenantSettings> | TenantSettings;

/**
 * Reads a tenant's settings, at most once in five seconds; synchronous when they are known. While
 * Postgres is away, the last known ones count. Throws `not_found`.
 */
export function createTenantSettingsReader(orm: Orm, guard: Pick<ReadGuard, "lookUp">): ReadTenantSettings {
  const remembered = new Map<string, { settings: TenantSettings; untilMs: number }>();
  /** All requests of a tenant share one look. */
  const loading = new Map<string, Promise<TenantSettings>>();

  async function select(tenantId: string): Promise<TenantSettings> {
    const [row] = await guard.lookUp(() =>
      orm
        .select({
          timeZone: tenants.timeZone,
          currency: tenants.currency,
          trustedSales: tenants.trustedSales,
          exchangeRates: tenants.exchangeRates,
          eventRetentionDays: tenants.eventRetentionDays,
          properties: tenants.breakdownProperties,
        })
        .from(tenants)
        .where(eq(tenants.id, tenantId)),
    );
    if (!row) throw new AppError("not_found", "The tenant is gone.");
    const settings = { ...row, exchangeRates: createRateTable(row.exchangeRates) };
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(tenantId, { settings, untilMs: Date.now() + REMEMBER_MS });
    return settings;
  }

  function load(tenantId: string): Promise<TenantSettings> {
    const running = loading.get(tenantId);
    if (running) return running;
    const started = select(tenantId)
      .catch((error) => {
        const known = remembered.get(tenantId);
        if (known && isAway(error)) return known.settings;
        throw error;
      })
      .finally(() => loading.delete(tenantId));
    loading.set(tenantId, started);
    return started;
  }

  return (tenantId) => {
    const known = remembered.get(tenantId);
    return known && known.untilMs > Date.now() ? known.settings : load(tenantId);
  };
}
