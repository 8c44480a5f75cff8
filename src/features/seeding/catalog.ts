import { createRandom, createWeightedDraw, type Random, zipfWeights } from "./random.ts";

export interface SeedProduct {
  id: string;
  price: number;
  category: string;
  /** How much more or less than others a visitor is inclined to buy it; around 1. */
  appeal: number;
}

export interface Catalog {
  /** A product as visitors come upon it: popularity follows Zipf's law. */
  draw(random: Random): SeedProduct;
}

const CATEGORIES = ["garden", "kitchen", "lighting", "office", "outdoor", "textiles", "toys"] as const;
const ENDINGS = [0.99, 0.95, 0.5, 0] as const;
const POPULARITY = { exponent: 0.9, flatten: 2 };
const CATALOG_STREAM = 1;

/**
 * A shop's products, the same for the same seed. Their popularity has nothing to do with their
 * numbers.
 */
export function createCatalog(seed: number, count: number): Catalog {
  const random = createRandom(seed, CATALOG_STREAM);
  const digits = Math.max(4, String(count).length);
  const products = Array.from({ length: count }, (_, index): SeedProduct => {
    // Log-uniform from 3 to about 200: many cheap things, few dear ones.
    const base = Math.floor(Math.exp(Math.log(3) + random.next() * Math.log(66)));
    return {
      id: `sku-${String(index + 1).padStart(digits, "0")}`,
      price: Number((base + (ENDINGS[random.between(0, ENDINGS.length - 1)] ?? 0)).toFixed(2)),
      category: CATEGORIES[random.between(0, CATEGORIES.length - 1)] ?? CATEGORIES[0],
      appeal: 0.6 + random.next() * 0.8,
    };
  });
  shuffle(products, random);
  const drawRank = createWeightedDraw(zipfWeights(count, POPULARITY.exponent, POPULARITY.flatten));
  return { draw: (visitor) => products[drawRank(visitor)] as SeedProduct };
}

function shuffle<T>(items: T[], random: Random): void {
  for (let last = items.length - 1; last > 0; last -= 1) {
    const other = random.between(0, last);
    [items[last], items[other]] = [items[other] as T, items[last] as T];
  }
}
