/**
 * What the fields of a product may hold. The API's schemas check it by zod, an import of a million
 * rows by hand. It stands here because schemas import core only.
 */
export const MAX_PRODUCT_ID = 128;
/**
 * An index entry holds at most 2,704 bytes: a name of four-byte characters, an id and a tenant fit.
 */
export const MAX_NAME = 255;
export const MAX_DESCRIPTION = 10_000;
/** Of skus, categories and ids of sellers. */
export const MAX_LABEL = 100;
export const MAX_URL = 2_048;
/** numeric(12, 2). */
export const MAX_PRICE = 9_999_999_999.99;
/** Of what is in stock; sums of them stay exact. */
export const MAX_QUANTITY = 1_000_000_000;

export const PRODUCT_STATUSES = ["active", "inactive"] as const;
export type ProductStatus = (typeof PRODUCT_STATUSES)[number];

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Names of other routes below /products, and names that a URL resolves away before it is sent. */
const UNREACHABLE: readonly string[] = ["categories", "export", "import", "imports", ".", ".."];

/**
 * Ids (the shop's own stock codes, so almost any text) and labels: no control characters, no space
 * at the ends, storable. The caller checks the length.
 */
export function isPlainText(text: string): boolean {
  return !CONTROL.test(text) && text.isWellFormed() && text.trim() === text;
}

/**
 * Whether `/products/{id}` can name this id. A product that could never be read again must not be
 * made.
 */
export function isReachableProductId(id: string): boolean {
  return !UNREACHABLE.includes(id);
}

export function isBlank(text: string): boolean {
  return text.trim() === "";
}

export function isWebAddress(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text);
}

/** What is said of a field that breaks its rule. */
export const RULES = {
  plainText: "has control characters or outer spaces",
  reachable: "is the name of another route or can't stand in a URL",
  notBlank: "must not be blank",
  webAddress: "must be an http or https URL, such as https://shop.example/tea.jpg",
} as const;
