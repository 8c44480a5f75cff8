import { createFairLine } from "../core/fair-line.ts";
import { PRIORITIES, type Priority } from "../core/priority.ts";

/**
 * Who may read next, and who may wait. While others wait, a tenant that runs its share of the
 * places comes after those that don't; otherwise core/fair-line.ts decides. A full queue gives the
 * place of its lowest read to a higher one of the same tenant, or of one that holds more than its
 * share. A tenant that holds less is let in all the same. Alone, a tenant has it all.
 */
export interface FairReads {
  /**
   * Runs `work` when it has a place. Rejects with what `refuse` makes when the queue is full or the
   * wait too long.
   */
  run<T>(tenantId: string, priority: Priority, work: () => Promise<T>): Promise<T>;
  /**
   * Refuses a waiting read of a lower priority, if it may be made to give way; false when there is
   * none.
   */
  giveWay(tenantId: string | null, priority: Priority): boolean;
  /** Reads that run or wait; of each tenant at most `felt`. */
  pressing(): number;
}

export interface FairReadsOptions {
  running: number;
  /** Reads of all tenants that run or wait when one of this priority is refused. */
  limitOf: (priority: Priority) => number;
  waitMs: number;
  felt: number;
  refuse: (priority: Priority) => Error;
}

interface Reads {
  running: number;
  /** Those that run or wait. */
  held: number;
}

export function createFairReads({ running, limitOf, waitMs, felt, refuse }: FairReadsOptions): FairReads {
  const line = createFairLine({ waitMs, refuse });
  /** Tenants that have reads here. */
  const tenants = new Map<string, Reads>();
  const heldBy = PRIORITIES.map(() => 0);
  let runningNow = 0;
  let heldNow = 0;
  let pressingNow = 0;

  const heldOf = (tenantId: string) => tenants.get(tenantId)?.held ?? 0;

  /** Those of this priority or a higher one: lower ones that run already take no place from it. */
  const heldFrom = (priority: Priority) =>
    heldBy.slice(PRIORITIES.indexOf(priority)).reduce((sum, held) => sum + held, 0);

  function giveWay(tenantId: string | null, priority: Priority, share: number): boolean {
    return line.giveWay(priority, (other) => other === tenantId || heldOf(other) > share);
  }

  /** Returns what to call at the end. */
  function enter(tenantId: string, priority: Priority): () => void {
    const limit = limitOf(priority);
    if (heldNow >= limit) {
      const held = heldOf(tenantId);
      const share = limit / (tenants.size + (held === 0 ? 1 : 0));
      const madeRoom = giveWay(tenantId, priority, share);
      if (!madeRoom && held + 1 > share && heldFrom(priority) >= limit) throw refuse(priority);
    }
    const own = tenants.get(tenantId) ?? { running: 0, held: 0 };
    tenants.set(tenantId, own);
    count(own, priority, 1);
    return () => {
      count(own, priority, -1);
      if (own.held === 0) tenants.delete(tenantId);
    };
  }

  function count(own: Reads, priority: Priority, change: 1 | -1): void {
    const felts = Math.min(own.held, felt);
    own.held += change;
    pressingNow += Math.min(own.held, felt) - felts;
    heldNow += change;
    heldBy[PRIORITIES.indexOf(priority)] = (heldBy[PRIORITIES.indexOf(priority)] ?? 0) + change;
  }

  function start(tenantId: string, change: 1 | -1): void {
    const own = tenants.get(tenantId);
    if (own) own.running += change;
    runningNow += change;
  }

  function startNext(): void {
    const share = running / tenants.size;
    const next =
      line.startNext((tenantId) => (tenants.get(tenantId)?.running ?? 0) < share) ??
      line.startNext(() => true);
    if (next !== undefined) start(next, 1);
  }

  return {
    async run(tenantId, priority, work) {
      const leave = enter(tenantId, priority);
      if (runningNow < running) start(tenantId, 1);
      else await line.wait(tenantId, priority, leave);
      try {
        return await work();
      } finally {
        start(tenantId, -1);
        leave();
        startNext();
      }
    },
    giveWay: (tenantId, priority) => giveWay(tenantId, priority, heldNow / tenants.size),
    pressing: () => pressingNow,
  };
}
