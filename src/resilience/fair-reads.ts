import { PRIORITIES, type Priority } from "../core/priority.ts";

/**
 * Who may read next, and who may wait for it. Within a tenant and among tenants the higher priority goes first; but while
 * others wait, a tenant that runs its share of the places comes after those that don't, and of those that are equal each has
 * its turn. In line, too, a full house is no reason to refuse who holds less than its share. Alone, a tenant has it all.
 */
export interface FairReads {
  /** Runs `work` when it has a place. Rejects with what `refuse` makes when the line is full, or waited for in vain. */
  run<T>(tenantId: string, priority: Priority, work: () => Promise<T>): Promise<T>;
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
  waiting: number;
  /** Those that wait, by priority. */
  lines: Set<() => void>[];
}

export function createFairReads({ running, limitOf, waitMs, felt, refuse }: FairReadsOptions): FairReads {
  /** Tenants that have reads here; the one whose turn is next stands first. */
  const tenants = new Map<string, Reads>();
  let runningNow = 0;
  let heldNow = 0;
  let pressingNow = 0;

  function enter(tenantId: string, priority: Priority): Reads {
    const own = tenants.get(tenantId);
    const held = own ? own.running + own.waiting : 0;
    const limit = limitOf(priority);
    const share = limit / (tenants.size + (own ? 0 : 1));
    if (heldNow >= limit && held + 1 > share) throw refuse(priority);
    heldNow += 1;
    if (held < felt) pressingNow += 1;
    if (own) return own;
    const first = { running: 0, waiting: 0, lines: PRIORITIES.map(() => new Set<() => void>()) };
    tenants.set(tenantId, first);
    return first;
  }

  function leave(tenantId: string, own: Reads): void {
    const held = own.running + own.waiting;
    heldNow -= 1;
    if (held < felt) pressingNow -= 1;
    if (held === 0) tenants.delete(tenantId);
  }

  function wait(tenantId: string, own: Reads, priority: Priority): Promise<void> {
    const line = own.lines[PRIORITIES.indexOf(priority)] ?? new Set();
    own.waiting += 1;
    return new Promise((resolve, reject) => {
      const start = () => {
        clearTimeout(timer);
        line.delete(start);
        own.waiting -= 1;
        resolve();
      };
      const timer = setTimeout(() => {
        line.delete(start);
        own.waiting -= 1;
        leave(tenantId, own);
        reject(refuse(priority));
      }, waitMs);
      line.add(start);
    });
  }

  /** Higher goes first; 0 for a tenant that waits for nothing. */
  function rankOf({ running: runs, waiting, lines }: Reads): number {
    if (waiting === 0) return 0;
    const ofPriority = lines.findLastIndex(({ size }) => size > 0) + 1;
    return ofPriority + (runs < running / tenants.size ? PRIORITIES.length : 0);
  }

  function startNext(): void {
    let best = 0;
    let next: [string, Reads] | undefined;
    for (const entry of tenants) {
      const rank = rankOf(entry[1]);
      if (rank > best) [best, next] = [rank, entry];
    }
    if (!next) return;
    const [tenantId, own] = next;
    const [start] = own.lines.findLast(({ size }) => size > 0) ?? [];
    tenants.delete(tenantId);
    tenants.set(tenantId, own);
    own.running += 1;
    runningNow += 1;
    start?.();
  }

  return {
    async run(tenantId, priority, work) {
      const own = enter(tenantId, priority);
      if (runningNow < running) {
        own.running += 1;
        runningNow += 1;
      } else await wait(tenantId, own, priority);
      try {
        return await work();
      } finally {
        own.running -= 1;
        runningNow -= 1;
        leave(tenantId, own);
        startNext();
      }
    },
    pressing: () => pressingNow,
  };
}
