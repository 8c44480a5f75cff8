/**
 * The name of a list that a typing error or another spelling may have meant; null when none is
 * near.
 */
export function nearestOf(given: string, names: readonly string[]): string | null {
  // Longer than any name of ours; the cost below is the product of two lengths.
  if (given.length > 64) return null;
  const plain = plainForm(given);
  let best: { name: string; distance: number } | null = null;
  for (const name of names) {
    const other = plainForm(name);
    const isBeginning = plain.length >= 3 && other.startsWith(plain);
    const distance = isBeginning ? 1 : editDistance(plain, other);
    const allowed = isBeginning ? 1 : Math.min(2, Math.floor(Math.max(plain.length, other.length) / 3));
    if (distance <= allowed && (best === null || distance < best.distance)) best = { name, distance };
  }
  return best?.name ?? null;
}

/** `product_id`, `Product-Id` and `productId` are one name. */
function plainForm(name: string): string {
  return name.toLowerCase().replaceAll(/[_\-\s]/g, "");
}

/**
 * How many letters are inserted, left out, replaced or swapped with their neighbour (optimal string
 * alignment).
 */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, replaced);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j] ?? 0, (beforeLast[j - 2] ?? 0) + 1);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
