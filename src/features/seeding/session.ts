import type { Catalog, SeedProduct } from "./catalog.ts";
import type { Random } from "./random.ts";
import type { Visitor } from "./visitors.ts";

/** An event before it has its message id; `afterMs` is counted from the start of its session. */
export interface Step {
  afterMs: number;
  type: string;
  productId?: string;
  properties?: Record<string, unknown>;
}

/** What a visitor does with one product: each step is rarer than the one before. */
const FUNNEL = {
  click: 0.5,
  addToCart: 0.06,
  addToCartAfterClick: 0.17,
  removeFromCart: 0.14,
  checkout: 0.5,
  purchase: 0.68,
  refund: 0.05,
};
const SEARCH = 0.3;
/** Users who are signed in know what they want. */
const KNOWN_BONUS = 1.25;
const LEAVE_AFTER_PRODUCT = 0.42;
const MAX_PRODUCTS = 12;
const DAY_MS = 86_400_000;
const REFUND_DAYS = { min: 1, max: 10 };
const QUERIES = ["lamp", "gift", "mug", "garden chair", "notebook", "candle", "blanket", "kids", "sale"];

/**
 * One visit: search, view some products, put some into the cart, perhaps check out and buy them.
 * Refunds are the last steps, days after their purchase.
 */
export function playSession(random: Random, catalog: Catalog, visitor: Visitor): Step[] {
  const steps: Step[] = [];
  let afterMs = 0;
  const step = (type: string, product: SeedProduct | null, extra?: Record<string, unknown>) => {
    const category = product ? { category: product.category } : undefined;
    steps.push({ afterMs, type, productId: product?.id, properties: { ...category, ...extra } });
    afterMs += random.between(4_000, 90_000);
  };
  const bonus = visitor.userId === undefined ? 1 : KNOWN_BONUS;
  const cart = new Map<SeedProduct, number>();

  for (let seen = 0; seen < MAX_PRODUCTS; seen += 1) {
    if (random.chance(seen === 0 ? SEARCH : SEARCH / 2))
      step("search", null, { query: QUERIES[random.between(0, QUERIES.length - 1)] });
    const product = catalog.draw(random);
    step("view", product);
    const clicked = random.chance(FUNNEL.click);
    if (clicked) step("click", product);
    const adds = clicked ? FUNNEL.addToCartAfterClick : FUNNEL.addToCart;
    if (random.chance(adds * bonus * product.appeal)) {
      const quantity = random.chance(0.75) ? 1 : random.between(2, 4);
      step("add_to_cart", product, { quantity });
      cart.set(product, quantity);
      if (random.chance(FUNNEL.removeFromCart)) {
        step("remove_from_cart", product, { quantity });
        cart.delete(product);
      }
    }
    if (random.chance(LEAVE_AFTER_PRODUCT)) break;
  }
  if (cart.size > 0 && random.chance(FUNNEL.checkout * bonus)) checkOut(random, cart, steps, step);
  return steps;
}

/**
 * Each product in the cart has its own checkout and purchase event, so that products have funnels,
 * too.
 */
function checkOut(
  random: Random,
  cart: ReadonlyMap<SeedProduct, number>,
  steps: Step[],
  step: (type: string, product: SeedProduct, extra?: Record<string, unknown>) => void,
): void {
  for (const product of cart.keys()) step("checkout_start", product);
  if (!random.chance(FUNNEL.purchase)) return;
  for (const [product, quantity] of cart) step("purchase", product, { quantity, price: product.price });
  for (const bought of steps.filter(({ type }) => type === "purchase")) {
    if (!random.chance(FUNNEL.refund)) continue;
    const laterMs = random.between(REFUND_DAYS.min * DAY_MS, REFUND_DAYS.max * DAY_MS);
    steps.push({ ...bought, type: "refund", afterMs: bought.afterMs + laterMs });
  }
}
