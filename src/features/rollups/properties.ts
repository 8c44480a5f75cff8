import type { Invalidator } from "../../cache/invalidator.ts";
import { clearingTag } from "../../cache/tags.ts";
import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database, Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import * as repository from "./property-fills-repository.ts";

export type PropertiesService = ReturnType<typeof createPropertiesService>;

/** Which properties of events a tenant's breakdowns know. */
export function createPropertiesService({ db, invalidator }: { db: Database; invalidator: Invalidator }) {
  return {
    listProperties: ({ tenantId }: RequestContext) => describeChoice(db.read, tenantId),

    /** A worker fills new properties and clears dropped ones. Those that stay are not touched. */
    async chooseProperties(ctx: RequestContext, chosen: readonly string[]) {
      const { tenantId } = ctx;
      await db.transaction((tx) => choose(tx, ctx, chosen));
      await invalidator.invalidateTags(tenantId, [clearingTag("analytics")]);
      return describeChoice(db.write, tenantId);
    },
  };
}

async function choose(tx: Transaction, ctx: RequestContext, chosen: readonly string[]): Promise<void> {
  const { tenantId } = ctx;
  await repository.lockProperties(tx, tenantId);
  const before = await repository.selectChoice(tx, tenantId);
  if (!before) throw new AppError("not_found", "The tenant is gone.");
  const fills = await repository.selectFills(tx, tenantId);
  const clearing = new Set(fills.flatMap(({ state, property }) => (state === "clearing" ? property : [])));
  const counted = new Set(before.properties);
  const added = chosen.filter((name) => !counted.has(name) && !clearing.has(name));
  const dropped = before.properties.filter((name) => !chosen.includes(name));
  const version = before.version + (added.length > 0 ? 1 : 0);
  const properties = chosen.filter((name) => !clearing.has(name));
  await repository.updateChoice(tx, tenantId, { properties, version });
  await repository.startFills(tx, tenantId, added, version);
  await repository.startClearing(tx, tenantId, dropped);
  await repository.updateWanted(tx, tenantId, chosen);
  await recordAudit(tx, ctx, {
    action: "tenant.properties_chosen",
    target: tenantId,
    before: { properties: before.properties },
    after: { properties: chosen },
  });
}

async function describeChoice(sql: Sql, tenantId: string) {
  const [choice, fills] = await Promise.all([
    repository.selectChoice(sql, tenantId),
    repository.selectFills(sql, tenantId),
  ]);
  if (!choice) throw new AppError("not_found", "The tenant is gone.");
  const fillOf = new Map(fills.map((fill) => [fill.property, fill]));
  const again = fills.filter(({ state, wanted }) => state === "clearing" && wanted);
  const names = [...choice.properties, ...again.map(({ property }) => property)];
  return {
    items: names.map((name) => ({ name, ...progressOf(fillOf.get(name)) })),
    removing: fills.flatMap(({ state, wanted, property }) =>
      state === "clearing" && !wanted ? [property] : [],
    ),
  };
}

function progressOf(fill: repository.Fill | undefined) {
  if (!fill) return { state: "ready" as const, progress: 1 };
  const share = fill.total === 0 ? 0 : fill.done / fill.total;
  // Events may have come since they were counted. It is done only when the fill is gone.
  return { state: "filling" as const, progress: Math.min(0.99, Math.floor(share * 100) / 100) };
}
