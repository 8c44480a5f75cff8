import type { Warning } from "../events/index.ts";

/** What rows said in vain: how many times, by code, and under which names. */
export type WarningTotals = ReadonlyMap<string, { count: number; paths: ReadonlySet<string> }>;

export function createWarningTotals() {
  const totals = new Map<string, { count: number; paths: Set<string> }>();
  return {
    totals: totals as WarningTotals,
    add({ code, path }: Warning): void {
      const known = totals.get(code) ?? { count: 0, paths: new Set() };
      known.count += 1;
      known.paths.add(path);
      totals.set(code, known);
    },
  };
}
