import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { OrderQueue } from "../orders/index.ts";
import type { RollupService } from "../rollups/index.ts";

export interface QueueDeps {
  orderQueue: OrderQueue;
  rollups: RollupService;
}

export type QueueService = ReturnType<typeof createQueueService>;

/** All that waits for workers and all that they gave up, of one tenant. */
export function createQueueService({ orderQueue, rollups }: QueueDeps) {
  return {
    getStats: (ctx: RequestContext) => orderQueue.readStats(ctx),
    purge: (ctx: RequestContext) => orderQueue.purge(ctx),

    /**
     * `stopped`: no worker lives. `stalled`: one does, and yet something waits for longer than any
     * retry.
     */
    async getWorkerStatus(ctx: RequestContext) {
      const [workers, { oldestAgeMs, depth }] = await Promise.all([
        orderQueue.readWorkers(ctx.tenantId),
        orderQueue.readStats(ctx),
      ]);
      const alive = workers.filter((worker) => worker.alive).length;
      const status = alive === 0 ? "stopped" : depth > 0 && oldestAgeMs > STALLED_MS ? "stalled" : "running";
      return { status: status as "stopped" | "stalled" | "running", alive, workers };
    },

    async getWorkerStats(ctx: RequestContext) {
      const [workers, { workers: handled, p50Ms, p99Ms }] = await Promise.all([
        orderQueue.readWorkers(ctx.tenantId),
        orderQueue.readThroughput(ctx),
      ]);
      const counts = new Map(handled.map((one) => [one.worker, one]));
      for (const { name } of workers)
        if (!counts.has(name)) counts.set(name, { worker: name, applied: 0, refused: 0 });
      const perWorker = [...counts.values()].map(({ worker, applied, refused }) => ({
        name: worker,
        alive: workers.some((one) => one.name === worker && one.alive),
        handled: applied + refused,
        applied,
        refused,
      }));
      const total = perWorker.reduce((sum, one) => sum + one.handled, 0);
      return { windowSeconds: 60, handled: total, perSecond: total / 60, p50Ms, p99Ms, workers: perWorker };
    },

    /**
     * Both kinds in one order, the oldest first. Throws `invalid_input` for a cursor of another
     * list.
     */
    async listDeadLetters(
      ctx: Pick<RequestContext, "tenantId">,
      { limit, cursor }: { limit: number; cursor?: string },
    ) {
      const page = { limit: limit + 1, after: placeOf(cursor) };
      const [batches, commands] = await Promise.all([
        rollups.listDeadLetters(ctx, page),
        orderQueue.listDead(ctx, page),
      ]);
      const letters = [...batches, ...commands].sort(byPlace);
      const last = letters.length > limit ? letters[limit - 1] : undefined;
      return {
        items: letters.slice(0, limit),
        nextCursor: last ? encodeCursor(LIST, [last.receivedAt, last.id]) : null,
      };
    },

    /** Throws `not_found` when it is of no kind. */
    async retryDeadLetter(ctx: RequestContext, id: string): Promise<void> {
      try {
        await rollups.retryDeadLetter(ctx, id);
      } catch (error) {
        if (!(error instanceof AppError && error.code === "not_found")) throw error;
        await orderQueue.retryDead(ctx, id);
      }
    },
  };
}

/** Binds cursors to this list. */
const LIST = "deadLetters";

interface Place {
  receivedAt: string;
  id: string;
}

function placeOf(cursor: string | undefined): Place | undefined {
  if (cursor === undefined) return undefined;
  const [receivedAt = "", id = ""] = decodeCursor(LIST, cursor, 2);
  if (!isUuid(id) || Number.isNaN(Date.parse(receivedAt)))
    throw new AppError("invalid_input", "The cursor is not valid.");
  return { receivedAt, id };
}

/** As Postgres orders them: UUIDs by their bytes, which is how their lower-case text compares. */
function byPlace(a: Place, b: Place): number {
  const [one, other] = [`${a.receivedAt} ${a.id}`, `${b.receivedAt} ${b.id}`];
  return one < other ? -1 : Number(one > other);
}

/** Beyond the longest that a head is retried, its tries included. */
const STALLED_MS = 60_000;
