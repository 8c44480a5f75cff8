/** A stream of pseudo-random numbers that depends on its seed alone, on every machine. */
export interface Random {
  /** From 0 up to, but not including, 1. */
  next(): number;
  /** A whole number from `min` to `max`, both included. */
  between(min: number, max: number): number;
  chance(probability: number): boolean;
}

/** sfc32 by Chris Doty-Humphrey (PractRand), seeded by two 32-bit numbers. */
export function createRandom(seed: number, stream = 0): Random {
  let a = seed | 0;
  let b = stream | 0;
  let c = Math.floor(seed / 2 ** 32) | 0;
  let counter = 1;
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  // Seeds that are close to each other have left their beginnings behind after a dozen rounds.
  for (let round = 0; round < 15; round += 1) next();
  return {
    next,
    between: (min, max) => min + Math.floor(next() * (max - min + 1)),
    chance: (probability) => next() < probability,
  };
}

/** Draws an index with a probability proportional to its weight, in O(log n). */
export function createWeightedDraw(weights: Iterable<number>): (random: Random) => number {
  const sums: number[] = [];
  let total = 0;
  for (const weight of weights) {
    total += weight;
    sums.push(total);
  }
  return (random) => {
    const target = random.next() * total;
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sums[middle] ?? total) > target) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}

/**
 * Weights 1, 1/2^exponent, 1/3^exponent, ...: a few are very popular, many hardly. `flatten` lowers
 * the first ones.
 */
export function* zipfWeights(count: number, exponent: number, flatten: number): Generator<number> {
  for (let rank = 1; rank <= count; rank += 1) yield 1 / (rank + flatten) ** exponent;
}
