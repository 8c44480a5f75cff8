import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import { type HeldImport, renewHold } from "./imports-repository.ts";
import type { ParsedRow } from "./parse-row.ts";
import { planBatch } from "./plan-batch.ts";
import { changeEvent, crossingEvents } from "./product-events.ts";
import {
  type BatchStep,
  limitStatements,
  lockImport,
  lockProducts,
  storeBatch,
} from "./products-repository.ts";

/** Somebody else works on this import, or it is gone. */
export class LostImport extends Error {}

/** A write that met somebody else's between its plan and its statement. */
class Collision extends Error {}

/** How often a batch that collides is planned again before it is taken apart. */
const COLLISIONS = 3;
/**
 * Its locks delay orders and the API. It is longer than the wait for a lock, so that the two can be
 * told apart.
 */
const STATEMENT_MS = 5_000;
/** At most half a megabyte: if that takes too long, Postgres is slow, not the batch too large. */
const MIN_ROWS = 50;
/**
 * Errors of further rows are only counted: such a file is wrong as a whole, and its report would
 * outgrow it.
 */
const MAX_FAILED_REPORTED = 100_000;

export interface Progress {
  holder: string;
  /** The byte that the import has reached. */
  position: number;
  /** Rows refused so far. */
  failed: number;
  /** Rows of a transaction; fewer from where one took too long. */
  maxRows: number;
  holdMs: number;
}

/**
 * Stores the rows of a batch, each once. The batch is locked, planned and written in one
 * transaction. It is planned again when it collides with other writes, and halved when it takes too
 * long. Rows that Postgres refuses are found by halving and reported. After each commit
 * `invalidate` gets the ids of the products that were there before.
 */
export async function storeRows(
  { transaction, write }: Pick<Database, "transaction" | "write">,
  held: HeldImport,
  rows: readonly ParsedRow[],
  progress: Progress,
  invalidate: (ids: string[]) => Promise<void>,
): Promise<Pick<Progress, "position" | "failed" | "maxRows">> {
  let { position, failed, maxRows } = progress;
  let [done, size, collisions] = [0, maxRows, 0];

  async function storeSome(some: readonly ParsedRow[]): Promise<number> {
    const changedIds: string[] = [];
    const { taken, refused, reached } = await transaction(async (tx) => {
      const step = { ...progress, from: position };
      const [, tenant] = await Promise.all([limitStatements(tx, STATEMENT_MS), lockImport(tx, held, step)]);
      if (tenant === null) throw new LostImport();
      const stored = await lockProducts(tx, held.tenantId, ...namesOf(some));
      const plan = planBatch(some, { stored, sellerId: held.sellerId, now: new Date() });
      const last = some[plan.taken - 1] as ParsedRow;
      if (failed >= MAX_FAILED_REPORTED) plan.errors = [];
      const { hasListener, currency, lowStockThreshold } = tenant;
      const outcome = await storeBatch(
        tx,
        held,
        plan,
        { ...step, to: last.end, line: last.endLine } satisfies BatchStep,
        plan.changes.flatMap((change) => [
          ...(hasListener ? [changeEvent(change, currency)] : []),
          ...crossingEvents(change, lowStockThreshold, currency),
        ]),
      );
      if (outcome.moved === 0) throw new LostImport();
      if (outcome.written !== plan.changes.length || outcome.hasListener !== hasListener)
        throw new Collision();
      changedIds.length = 0;
      for (const { before, after } of plan.changes) if (before !== null) changedIds.push(after.id);
      return { taken: plan.taken, refused: plan.counts.failed, reached: last.end };
    });
    position = reached;
    failed += refused;
    await invalidate(changedIds);
    return taken;
  }

  while (done < rows.length) {
    const some = rows.slice(done, done + size);
    try {
      done += await storeSome(some);
      [size, collisions] = [maxRows, 0];
    } catch (error) {
      if (classifyFailure(error) === "timeout" && some.length > MIN_ROWS) {
        maxRows = size = Math.ceil(some.length / 2);
        if (!(await renewHold(write, held, progress))) throw new LostImport();
        continue;
      }
      if (!isOfTheRows(error)) throw error;
      collisions += 1;
      if (classifyFailure(error) !== "data" && collisions <= COLLISIONS) continue;
      if (some.length > 1) size = Math.ceil(some.length / 2);
      else done += await storeSome(some.map(refuse));
    }
  }
  return { position, failed, maxRows };
}

function isOfTheRows(error: unknown): boolean {
  return error instanceof Collision || ["data", "conflict"].includes(classifyFailure(error));
}

function refuse(row: ParsedRow): ParsedRow {
  return { ...row, product: null, errors: [{ path: "", message: "could not be stored" }] };
}

/** The ids and skus that rows name, in order. */
function namesOf(rows: readonly ParsedRow[]): [ids: string[], skus: string[]] {
  const ids = new Set<string>();
  const skus = new Set<string>();
  for (const { product } of rows) {
    if (product?.id) ids.add(product.id);
    if (product?.sku) skus.add(product.sku);
  }
  return [[...ids].sort(), [...skus].sort()];
}
