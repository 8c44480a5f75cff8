const AT_ONCE = 10_000;
const ROUND_MS = 20_000;

/**
 * Runs `prune` in small statements until nothing is left or the time is up; the rest goes in the next round. Fewer rows
 * than the limit say nothing: some statements have limits of their own.
 */
export async function pruneAll(prune: (limit: number) => Promise<number>): Promise<number> {
  let pruned = 0;
  for (const deadline = Date.now() + ROUND_MS; Date.now() < deadline; ) {
    const rows = await prune(AT_ONCE);
    pruned += rows;
    if (rows === 0) break;
  }
  return pruned;
}
