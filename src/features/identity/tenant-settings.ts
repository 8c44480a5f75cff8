import { eq } from "drizzle-orm";
import { AppError } from "../../core/errors.ts";
import type { Orm } from "../../db/client.ts";
import { isAway } from "../../db/failures.ts";
import { tenants } from "../../db/schema/identity.ts";

/** What ingest and analytics need to know of a tenant on every request. */
export interface TenantSettings {
  timeZone: string;
  currency: string;
  eventRetentionDays: number | null;
}

const REMEMBER_MS = 5_000;

export type ReadTenantSettings = (tenantId: string) => Promise<TenantSettings> | TenantSettings;

const MAX_REMEMBERED = 10_000;

/**
 * Reads a tenant's settings, at most once in five seconds; synchronous when they are at hand. While Postgres is away they
 * are what they were. Throws `not_found`.
 */
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
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(tenantId, { settings, untilMs: Date.now() + REMEMBER_MS });
    return settings;
  }

  return (tenantId) => {
    const known = remembered.get(tenantId);
    if (known && known.untilMs > Date.now()) return known.settings;
    return load(tenantId).catch((error) => {
      if (known && isAway(error)) return known.settings;
      throw error;
    });
  };
}
