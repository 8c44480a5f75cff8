import type { JSONValue } from "postgres";
import { AppError } from "../../core/errors.ts";
import type { ExchangeRate } from "../../core/exchange-rates.ts";
import type { RequestContext } from "../../core/principal.ts";
import { invalidInput } from "../../core/validation.ts";
import type { Database } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import { lockTenant } from "./members-repository.ts";
import { type TimeZones, unusableZone } from "./time-zones.ts";

export interface Tenant {
  id: string;
  slug: string;
  name: string;
  timeZone: string;
  currency: string;
  lowStockThreshold: number;
  trustedSales: boolean;
  exchangeRates: ExchangeRate[];
  eventRetentionDays: number | null;
}

export type TenantChange = Partial<Omit<Tenant, "id" | "slug">>;
export type TenantService = ReturnType<typeof createTenantService>;

export interface TenantDeps {
  db: Database;
  timeZones: Pick<TimeZones, "findFault">;
  /** In the transaction of the change: what could not be counted in the old zone is tried again. */
  retryRollups(tx: Transaction, tenantId: string): Promise<void>;
}

/** The settings of the caller's own tenant. */
export function createTenantService({ db, timeZones, retryRollups }: TenantDeps) {
  /** Looked at before the transaction, which would hold its locks meanwhile. */
  async function judgeZones(tenantId: string, wanted: string) {
    const held = (await selectTenant(db.read, tenantId))?.timeZone;
    if (held === undefined || held === wanted) return { held, heldFault: null, fault: null };
    return { held, heldFault: await timeZones.findFault(held), fault: await timeZones.findFault(wanted) };
  }

  return {
    async getTenant({ tenantId }: RequestContext): Promise<Tenant> {
      const tenant = await selectTenant(db.read, tenantId);
      if (!tenant) throw new AppError("not_found", "The tenant is gone.");
      return tenant;
    },

    /**
     * Throws `conflict` for another time zone once there are events: their days are counted in the
     * old one, and changing it takes `footfall rebuild --time-zone`. A zone that Postgres does not
     * know counts nothing, so it can be left. Throws `invalid_input` for a zone that can't be used,
     * and for exchange rates that are not into the tenant's currency.
     */
    async updateTenant(ctx: RequestContext, change: TenantChange): Promise<Tenant> {
      const { tenantId } = ctx;
      const zones = change.timeZone === undefined ? null : await judgeZones(tenantId, change.timeZone);
      return db.transaction(async (tx) => {
        await lockTenant(tx, tenantId);
        const before = await selectTenant(tx, tenantId);
        if (!before) throw new AppError("not_found", "The tenant is gone.");
        if (zones !== null && change.timeZone !== before.timeZone) {
          if (zones.fault) throw unusableZone(zones.fault);
          const useless = before.timeZone === zones.held && zones.heldFault?.code === "unknown_time_zone";
          await requireNothingCounted(tx, tenantId, useless);
          await retryRollups(tx, tenantId);
        }
        const after: Tenant = { ...before, ...change };
        checkRates(before, change, after);
        await tx`
          update tenants set name = ${after.name}, time_zone = ${after.timeZone}, currency = ${after.currency},
            low_stock_threshold = ${after.lowStockThreshold}, trusted_sales = ${after.trustedSales},
            exchange_rates = ${tx.json(after.exchangeRates as unknown as JSONValue)}, event_retention_days = ${after.eventRetentionDays}
          where id = ${tenantId}`;
        // Up to a thousand rates: no part of an entry about something else.
        const shown = ({ exchangeRates, ...rest }: Tenant) =>
          change.exchangeRates ? { ...rest, exchangeRates } : rest;
        const entry = {
          action: "tenant.updated",
          target: tenantId,
          before: shown(before),
          after: shown(after),
        };
        await recordAudit(tx, ctx, entry);
        return after;
      });
    },
  };
}

/**
 * Rates convert into the tenant's own currency: that one needs no rate, and changing it makes the
 * rates wrong.
 */
function checkRates(before: Tenant, change: TenantChange, after: Tenant): void {
  const isStale =
    after.currency !== before.currency && !change.exchangeRates && after.exchangeRates.length > 0;
  const own = after.exchangeRates.findIndex(({ currency }) => currency === after.currency);
  if (!isStale && own === -1) return;
  const error = isStale
    ? {
        path: "exchangeRates",
        code: "required",
        message: `are in ${before.currency}: send those in ${after.currency} with the currency, or []`,
      }
    : {
        path: `exchangeRates.${own}.currency`,
        code: "own_currency",
        message: "is the tenant's own currency",
      };
  throw invalidInput("body", [error]);
}

async function selectTenant(sql: Database["read"] | Transaction, tenantId: string): Promise<Tenant | null> {
  const [row] = await sql<Tenant[]>`
    select id, slug, name, time_zone as "timeZone", currency, low_stock_threshold as "lowStockThreshold",
      trusted_sales as "trustedSales", exchange_rates as "exchangeRates", event_retention_days as "eventRetentionDays"
    from tenants where id = ${tenantId}`;
  return row ?? null;
}

/**
 * Throws `conflict` once there are events, or rollups of events that retention has deleted. It
 * checks again behind the lock of recounting (features/rollups/recount.ts), under which no batch is
 * rolled up: events committed by then are seen, and later ones wait for the new zone. The check
 * before the lock keeps a tenant with events from delaying the workers. With `uncountedEvents`,
 * events may be there, but no rollups.
 */
async function requireNothingCounted(
  tx: Transaction,
  tenantId: string,
  uncountedEvents: boolean,
): Promise<void> {
  const look = () => (uncountedEvents ? requireNoRollups(tx, tenantId) : requireNoEvents(tx, tenantId));
  await look();
  await tx`lock table product_daily_stats in share row exclusive mode`;
  await look();
}

async function requireNoEvents(tx: Transaction, tenantId: string): Promise<void> {
  await requireNoRollups(tx, tenantId);
  if ((await tx`select from events where tenant_id = ${tenantId} limit 1`).length > 0) throw counted();
}

async function requireNoRollups(tx: Transaction, tenantId: string): Promise<void> {
  if ((await tx`select from event_hourly_stats where tenant_id = ${tenantId} limit 1`).length > 0)
    throw counted();
}

function counted(): AppError {
  return new AppError(
    "conflict",
    "The time zone can't change once there are events; use `footfall rebuild --time-zone`.",
  );
}
