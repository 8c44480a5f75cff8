import { JsonText } from "../core/json-text.ts";

/**
 * An answer as Redis and the processes hold it: a line of JSON with generations, times and a hash,
 * then the answer's own JSON, which a hit passes on unparsed.
 */
export interface Entry {
  /** The line and its end. It names a hash of the answer, so the same line is the same entry. */
  header: string;
  /** Of the tenant's whole cache, of the scope, then of the question's tags. */
  generations: string[];
  /** When computing began: the answer holds everything that was committed before. */
  asOfMs: number;
  madeAtMs: number;
  freshUntilMs: number;
  content: JsonText<unknown>;
}

type Worth = Omit<Entry, "header" | "content">;

export function makeEntry(worth: Worth, content: JsonText<unknown>): Entry {
  const { generations, asOfMs, madeAtMs, freshUntilMs } = worth;
  const line = JSON.stringify({ generations, asOfMs, madeAtMs, freshUntilMs, hash: content.hash });
  return { header: `${line}\n`, content, generations, asOfMs, madeAtMs, freshUntilMs };
}

export function encodeEntry({ header, content }: Entry): string {
  return header + content.text;
}

/** Null for an entry of an older program or of somebody else: it is computed and stored anew. */
export function parseEntry(stored: string): Entry | null {
  const headerEnd = stored.indexOf("\n") + 1;
  if (headerEnd === 0) return null;
  const header = stored.slice(0, headerEnd);
  try {
    const worth = JSON.parse(header) as Partial<Worth & { hash: string }> | null;
    if (!worth || !Array.isArray(worth.generations) || typeof worth.hash !== "string") return null;
    const { generations, asOfMs, madeAtMs, freshUntilMs, hash } = worth;
    if (![asOfMs, madeAtMs, freshUntilMs].every(Number.isFinite)) return null;
    const content = new JsonText(stored.slice(headerEnd), hash);
    return { header, content, generations, asOfMs, madeAtMs, freshUntilMs } as Entry;
  } catch {
    return null;
  }
}
