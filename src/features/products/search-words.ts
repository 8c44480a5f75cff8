import { searchPrefix, WORD_SEPARATORS } from "../../db/schema/catalogue.ts";

const SEPARATORS = new RegExp(WORD_SEPARATORS, "u");
/** More words narrow nothing down. */
const MAX_WORDS = 32;
/** A tsquery refuses words of 2,048 bytes; a longer word is found by its beginning, too. */
const MAX_WORD = 100;

/**
 * A search as a tsquery of word beginnings, all of them needed; null when it has no word. The
 * separators leave no character that means something in a tsquery.
 */
export function searchWords(tenantId: string, search: string): string | null {
  const words = search.replaceAll("\0", " ").split(SEPARATORS).filter(Boolean).slice(0, MAX_WORDS);
  if (words.length === 0) return null;
  return words
    .map((word) => `'${searchPrefix(tenantId)}${[...word].slice(0, MAX_WORD).join("")}':*`)
    .join(" & ");
}
