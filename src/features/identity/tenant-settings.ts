import { eq } from "drizzle-orm";
import { AppError } from "../../core/errors.ts";
import type { Orm } from "../../db/client.ts";
import { tenants } from "../../db/schema/identity.ts";

/** What ingest and analytics need to know of a tenant on every request. */
export interface TenantSettings {
  timeZone: string;
  currency: string;
  eventRetentionDays: number | null;
}

const REMEMBER_MS = 5_000;

export type ReadTenantSettings = (tenantId: string) => Promise<TenantSettings> | TenantSettings;

/** Reads a tenant's settings, at most once in five seconds; synchronous when they are at hand. Throws `not_found`. */
export function createTenantSettingsReader(orm: Orm): ReadTenantSettings {
  const remembered = new Map<string, { settings: TenantSettings; untilMs: number }>();

  async function load(tenantId: string): Promise<TenantSettings> {
    const [settings] = await orm
      .select({
        timeZone: tenants.timeZone,
        currency: tenants.currency,
        eventRetentionDays: tenants.eventRetentionDays,
      })
      .from(tenants)
      .where(eq(tenants.id, tenantId));
    if (!settings) throw new AppError("not_found", "The tenant is gone.");
    remembered.set(tenantId, { settings, untilMs: Date.now() + REMEMBER_MS });
    return settings;
  }

  return (tenantId) => {
    const known = remembered.get(tenantId);
    return known && known.untilMs > Date.now() ? known.settings : load(tenantId);
  };
}
