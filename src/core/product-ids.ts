/** Ids of products: the shop's own stock codes, so almost any text. */
export const MAX_PRODUCT_ID = 128;

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Names of other routes below /products, and what a URL resolves away before it is sent. */
const UNREACHABLE: readonly string[] = ["categories", "export", "import", "imports", ".", ".."];

/** No control characters, no space at the ends, storable; the length is the schema's business. */
export function isProductId(text: string): boolean {
  return !CONTROL.test(text) && text.isWellFormed() && text.trim() === text;
}

/** Whether `/products/{id}` names the product of this id: one that could never be read again must not be made. */
export function isReachableProductId(id: string): boolean {
  return !UNREACHABLE.includes(id);
}
