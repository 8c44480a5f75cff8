import { PRIORITIES, type Priority } from "./priority.ts";

/**
 * A queue in which work of many keys (tenants) and four priorities waits for its turn. Priorities
 * share the turns by weight (stride scheduling, Waldspurger 1995), so the lower ones don't starve.
 * Within a priority, keys take turns. Work that has waited for half of the longest wait goes first,
 * the higher priority before the lower. So under overload it is lower work that is refused. See
 * docs/limits.md.
 */
export interface FairLine {
  /**
   * Resolves at its turn. Rejects with what `refuse` makes after the longest wait, or when it gives
   * way to a higher priority; `onRefused` is called at once then.
   */
  wait(key: string, priority: Priority, onRefused?: () => void): Promise<void>;
  /**
   * Starts the next one whose key `may` start, and returns that key; undefined when there is none.
   */
  startNext(may: (key: string) => boolean): string | undefined;
  /**
   * Refuses the newest one of the lowest priority below this one whose key `may` lose it; false
   * when there is none.
   */
  giveWay(below: Priority, may: (key: string) => boolean): boolean;
  /** How many of a key wait. */
  waitingOf(key: string): number;
  /** How many wait, and of how many keys. */
  size(): { waiting: number; keys: number };
}

export interface FairLineOptions {
  waitMs: number;
  refuse: (priority: Priority) => Error;
  nowMs?: () => number;
}

/** Turns of a round of fifteen in which all four wait. */
const WEIGHTS: Record<Priority, number> = { low: 1, normal: 2, high: 4, critical: 8 };
const OVERDUE_SHARE = 1 / 2;

interface Waiter {
  sinceMs: number;
  start(): void;
  refuse(): void;
}

interface Turns {
  stride: number;
  /** Goes up by the stride with each turn; of those that wait, the lowest is next. */
  pass: number;
  /** Those that wait, by key; the key whose turn is next stands first. */
  lines: Map<string, Set<Waiter>>;
}

export function createFairLine({
  waitMs,
  refuse,
  nowMs = () => performance.now(),
}: FairLineOptions): FairLine {
  /** The lowest first. */
  const classes = PRIORITIES.map(
    (priority): Turns => ({ stride: 1 / WEIGHTS[priority], pass: 0, lines: new Map() }),
  );
  const counts = new Map<string, number>();
  let waiting = 0;
  /** The pass of the last turn: a priority that nobody waited in does not catch up on turns. */
  let passed = 0;

  function enter(key: string, turns: Turns, waiter: Waiter): void {
    const { lines, stride } = turns;
    if (lines.size === 0) turns.pass = Math.max(turns.pass, passed + stride);
    lines.set(key, (lines.get(key) ?? new Set()).add(waiter));
    counts.set(key, (counts.get(key) ?? 0) + 1);
    waiting += 1;
  }

  function leave(key: string, { lines }: Turns, waiter: Waiter): void {
    const line = lines.get(key);
    line?.delete(waiter);
    if (line?.size === 0) lines.delete(key);
    const left = (counts.get(key) ?? 1) - 1;
    if (left > 0) counts.set(key, left);
    else counts.delete(key);
    waiting -= 1;
  }

  /** The class and key of the next turn. */
  function next(may: (key: string) => boolean): [Turns, string] | undefined {
    const overdueSinceMs = nowMs() - waitMs * OVERDUE_SHARE;
    let best: [Turns, string] | undefined;
    for (const turns of classes.toReversed()) {
      for (const [key, [oldest]] of turns.lines) {
        if (!oldest || !may(key)) continue;
        if (oldest.sinceMs <= overdueSinceMs) return [turns, key];
        if (!best || turns.pass < best[0].pass) best = [turns, key];
      }
    }
    return best;
  }

  return {
    wait(key, priority, onRefused) {
      const turns = classes[PRIORITIES.indexOf(priority)] as Turns;
      return new Promise((resolve, reject) => {
        const end = (settle: () => void) => {
          clearTimeout(timer);
          leave(key, turns, waiter);
          settle();
        };
        const refused = () => {
          onRefused?.();
          reject(refuse(priority));
        };
        const waiter: Waiter = {
          sinceMs: nowMs(),
          start: () => end(resolve),
          refuse: () => end(refused),
        };
        const timer = setTimeout(waiter.refuse, waitMs);
        enter(key, turns, waiter);
      });
    },

    startNext(may) {
      const found = next(may);
      if (!found) return undefined;
      const [turns, key] = found;
      const line = turns.lines.get(key) ?? new Set();
      // One whose keys could not start for a while does not catch up either.
      passed = Math.max(passed, turns.pass);
      turns.pass = passed + turns.stride;
      // To the end of its class, if it still waits then.
      turns.lines.delete(key);
      turns.lines.set(key, line);
      const [oldest] = line;
      oldest?.start();
      return key;
    },

    giveWay(below, may) {
      for (const { lines } of classes.slice(0, PRIORITIES.indexOf(below))) {
        const candidates = [...lines].filter(([key]) => may(key));
        const [, longest] = candidates.sort(([, a], [, b]) => b.size - a.size)[0] ?? [];
        const newest = longest && [...longest].at(-1);
        if (!newest) continue;
        newest.refuse();
        return true;
      }
      return false;
    },

    waitingOf: (key) => counts.get(key) ?? 0,
    size: () => ({ waiting, keys: counts.size }),
  };
}
