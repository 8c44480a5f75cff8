import type { Invalidator } from "../../cache/invalidator.ts";
import { clearingTag } from "../../cache/tags.ts";
import type { Database } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { waitForRebuild } from "./link-repository.ts";
import * as repository from "./property-fills-repository.ts";

/**
 * Properties chosen late are counted from the stored events; those given up lose their rows. A
 * choice bumps the tenant's version, which every roll-up records on its ledger row. Once no older
 * roll-up is under way (the fence), an event is counted either by its batch, if that has this
 * version or a newer one, or by the fill. The fill visits every event once in order of (ts, id),
 * and moves on in the transaction of its sums. `verify` and `rebuild` use the same distinction. See
 * docs/properties.md.
 */
export interface PropertyFillDeps {
  db: Database;
  invalidator: Invalidator;
}

export interface FillSizes {
  /** Events that a transaction visits: some tenths of a second. */
  events: number;
  /** Rows that a transaction deletes. */
  rows: number;
}

const SIZES: FillSizes = { events: 5_000, rows: 5_000 };
/** A round ends after this time; the next one continues. */
const ROUND_MS = 20_000;

export type PropertyFills = ReturnType<typeof createPropertyFills>;

interface Step {
  worked: number;
  /** Instants of the events whose answers have changed. */
  minMs: number | null;
  maxMs: number | null;
  /** Every answer may be another now. */
  finished: boolean;
}

const NOTHING: Step = { worked: 0, minMs: null, maxMs: null, finished: false };

export function createPropertyFills({ db, invalidator }: PropertyFillDeps) {
  let lastServed: string | null = null;

  /** One transaction of a tenant: the fence, else a part of a clearing, else of a fill. */
  async function step(tx: Transaction, tenantId: string, sizes: FillSizes): Promise<Step> {
    await repository.lockProperties(tx, tenantId);
    const fills = await repository.selectFills(tx, tenantId);
    if (fills.some(({ fenced }) => !fenced)) {
      await repository.fence(tx, tenantId);
      return { ...NOTHING, worked: 1 };
    }
    // A rebuild deletes rows and counts them anew: a fill must not run in between.
    await waitForRebuild(tx);
    const clearing = fills.find(({ state }) => state === "clearing");
    if (clearing) return clear(tx, tenantId, clearing, sizes.rows);
    const [first] = fills;
    if (!first) return NOTHING;
    const abreast = fills.filter(
      ({ version, uptoTs, uptoId }) =>
        version === first.version && uptoTs === first.uptoTs && uptoId === first.uptoId,
    );
    const { events, minMs, maxMs, done } = await repository.fillSome(tx, tenantId, abreast, sizes.events);
    return { worked: events + 1, minMs, maxMs, finished: done };
  }

  /** A property that is chosen again by the end is filled from the beginning, as if it were new. */
  async function clear(
    tx: Transaction,
    tenantId: string,
    fill: repository.Fill,
    limit: number,
  ): Promise<Step> {
    const { property, wanted } = fill;
    const rows = await repository.clearSome(tx, tenantId, property, limit);
    if (rows === limit) return { ...NOTHING, worked: rows };
    if (!wanted) await repository.deleteFill(tx, tenantId, property);
    const choice = wanted ? await repository.selectChoice(tx, tenantId) : null;
    if (choice) {
      const version = choice.version + 1;
      await repository.updateChoice(tx, tenantId, { properties: [...choice.properties, property], version });
      await repository.startFills(tx, tenantId, [property], version);
    }
    return { ...NOTHING, worked: rows + 1, finished: true };
  }

  /** A step and, after its commit, the cache. Returns how much was done. */
  async function stepAndTell(tenantId: string, sizes: FillSizes): Promise<number> {
    const { worked, minMs, maxMs, finished } = await db.transaction((tx) => step(tx, tenantId, sizes));
    if (finished) await invalidator.invalidateTags(tenantId, [clearingTag("analytics")]);
    else if (minMs !== null) await invalidator.invalidate([{ tenantId, minMs, maxMs }]);
    return worked;
  }

  return {
    /**
     * Fills and clears what waits. Tenants take turns of one transaction, at least one turn in all,
     * and a round goes on where the last one ended. Returns how much was done. Throws the first
     * failure after it has done what it can.
     */
    async fill(sizes: FillSizes = SIZES, roundMs = ROUND_MS): Promise<number> {
      const deadline = Date.now() + roundMs;
      const failures = new Map<string, unknown>();
      let worked = 0;
      do {
        const tenantId = await repository.selectTenantWithFills(db.write, lastServed, [...failures.keys()]);
        if (tenantId === null) break;
        lastServed = tenantId;
        try {
          worked += await stepAndTell(tenantId, sizes);
        } catch (error) {
          failures.set(tenantId, error);
        }
      } while (Date.now() < deadline);
      for (const failure of failures.values()) throw failure;
      return worked;
    },
  };
}
