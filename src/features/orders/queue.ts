import type { Invalidator } from "../../cache/invalidator.ts";
import { ORDERS_TAG, orderTag } from "../../cache/tags.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import { principalName, type RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import type { Announcer } from "../../streams/producer.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { recordAudit } from "../audit/index.ts";
import { insertDomainEvents } from "../outbox/index.ts";
import * as repository from "./queue-repository.ts";

export interface OrderQueueDeps {
  db: Database;
  announcer: Announcer;
  invalidator: Invalidator;
  metrics: Metrics;
}

export type OrderQueue = ReturnType<typeof createOrderQueue>;

export const HEARTBEAT_MS = 2_000;
/** A worker that has been silent for so long counts as dead. */
const ALIVE_MS = 5 * HEARTBEAT_MS;
const PURGE_A_TRANSACTION = 1_000;
/** How much one request purges. A client with more asks again. */
const PURGE_TRANSACTIONS = 50;
const METRICS_REMEMBERED_MS = 2_000;

/**
 * The queue of order commands as administrators see it: numbers, dead letters, purging, and the
 * workers.
 */
export function createOrderQueue({ db, announcer, invalidator, metrics }: OrderQueueDeps) {
  countOnScrape(db, metrics);

  async function readWorkers(tenantId: string) {
    const rows = await repository.selectWorkers(db.read, tenantId);
    return rows.map(({ ageMs, startedAt, seenAt, ...row }) => ({
      ...row,
      startedAt: startedAt.toISOString(),
      seenAt: seenAt.toISOString(),
      alive: ageMs < ALIVE_MS,
    }));
  }

  return {
    readWorkers,

    /** `inFlight` is as of the workers' last heartbeats. */
    async readStats({ tenantId }: RequestContext) {
      const [counts, workers] = await Promise.all([
        repository.selectCounts(db.read, tenantId),
        readWorkers(tenantId),
      ]);
      const inFlight = workers.reduce((sum, worker) => sum + (worker.alive ? worker.inFlight : 0), 0);
      return { ...counts, inFlight };
    },

    readThroughput: ({ tenantId }: RequestContext) => repository.selectThroughput(db.read, tenantId),

    /** Cancels the orders that wait to be handled; audited. Returns how many. */
    async purge(ctx: RequestContext): Promise<number> {
      const { tenantId } = ctx;
      let total = 0;
      for (let round = 0; round < PURGE_TRANSACTIONS; round += 1) {
        const { found, purged } = await db.transaction(async (tx) => {
          const by = principalName(ctx.principal);
          const taken = await repository.purgeWaiting(tx, tenantId, PURGE_A_TRANSACTION, by);
          await insertDomainEvents(tx, tenantId, taken.purged.map(purgedEvent));
          if (taken.purged.length > 0)
            await recordAudit(tx, ctx, {
              action: "queue.purged",
              target: tenantId,
              after: { orders: taken.purged.length },
            });
          return taken;
        });
        total += purged.length;
        await invalidator.invalidateTags(tenantId, [
          ORDERS_TAG,
          ...purged.map(({ orderId }) => orderTag(orderId)),
        ]);
        if (found < PURGE_A_TRANSACTION) break;
      }
      return total;
    },

    async listDead(
      { tenantId }: Pick<RequestContext, "tenantId">,
      page: { limit: number; after?: { receivedAt: string; id: string } },
    ) {
      const rows = await repository.selectDead(db.read, tenantId, page);
      return rows.map(({ receivedAt, deadLetteredAt, ...row }) => ({
        ...row,
        kind: "order_command" as const,
        receivedAt: receivedAt.toISOString(),
        deadLetteredAt: deadLetteredAt.toISOString(),
      }));
    },

    /** Throws `not_found`. The command goes to the end of its group. */
    async retryDead(ctx: RequestContext, id: string): Promise<void> {
      const { tenantId } = ctx;
      const groupId = await db.transaction(async (tx) => {
        const group = isUuid(id) ? await repository.reviveDead(tx, tenantId, id) : null;
        if (group === null) throw new AppError("not_found", "There is no such dead letter.");
        await recordAudit(tx, ctx, { action: "dead_letter.retried", target: id });
        return group;
      });
      await announcer.announceOrders([{ tenantId, groupId }]);
    },

    /** A worker's sign of life, with what it has under way. */
    beat: (worker: { name: string; startedAt: string; inFlight: Record<string, number> }) =>
      repository.upsertWorker(db.write, worker),
    leave: (name: string) => repository.deleteWorker(db.write, name),
    pruneWorkers: () => repository.pruneWorkers(db.write),
  };
}

function purgedEvent(order: { orderId: string; customerName: string; customerEmail: string }) {
  const payload = { ...order, previousStatus: "queued", status: "cancelled", reason: "purged" };
  return { topic: "order.cancelled" as const, subjectId: order.orderId, sellerId: null, payload };
}

/**
 * The gauges are read from Postgres when they are scraped, so every process reports the same, true
 * numbers.
 */
function countOnScrape(db: Database, metrics: Metrics): void {
  let remembered: { counts: Promise<void>; untilMs: number } | null = null;
  metrics.onScrape.orderQueue = () => {
    if (!remembered || remembered.untilMs < Date.now())
      remembered = { counts: count(db, metrics), untilMs: Date.now() + METRICS_REMEMBERED_MS };
    return remembered.counts;
  };
}

async function count(db: Database, metrics: Metrics): Promise<void> {
  try {
    const counts = await repository.selectCounts(db.read, null);
    metrics.orderQueue.set({ what: "waiting" }, counts.depth);
    metrics.orderQueue.set({ what: "retrying" }, counts.retrying);
    metrics.orderQueue.set({ what: "dead" }, counts.dead);
    metrics.orderQueue.set({ what: "groups" }, counts.groups);
    metrics.orderQueue.set({ what: "handled_last_minute" }, counts.handledLastMinute);
    metrics.orderQueue.set({ what: "oldest_age_seconds" }, counts.oldestAgeMs / 1_000);
  } catch {
    // Without Postgres there are no numbers, but the other metrics are needed then.
    metrics.orderQueue.reset();
  }
}
