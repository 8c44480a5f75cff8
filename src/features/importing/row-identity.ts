import { hash } from "node:crypto";

/**
 * Message ids of rows that have none. A row's id is made from its content and from how often that
 * content came before in this import. So the same file again stores nothing, while exact duplicates
 * within a file all count, and a longer version of a file adds what is new.
 */
export interface RowIdentities {
  messageIdOf(identity: string): string;
}

const HASH_DIGITS = 32;
/**
 * 13 hex digits are 52 bits, exact in a double. Two rows that share them only get higher numbers
 * than they need.
 */
const FINGERPRINT_DIGITS = 13;

export function createRowIdentities(): RowIdentities {
  const seen = new FingerprintSet();
  const repeats = new Map<number, number>();
  return {
    messageIdOf(identity) {
      const digest = hash("sha256", identity, "hex");
      const fingerprint = Number.parseInt(digest.slice(0, FINGERPRINT_DIGITS), 16);
      let occurrence = 1;
      if (!seen.add(fingerprint)) {
        occurrence = (repeats.get(fingerprint) ?? 1) + 1;
        repeats.set(fingerprint, occurrence);
      }
      return `imp:${digest.slice(0, HASH_DIGITS)}:${occurrence}`;
    },
  };
}

const FIRST_CAPACITY = 1 << 16;
const MAX_LOAD = 0.7;

/**
 * A set of uniformly spread non-negative integers, in an open-addressed table. It is all that grows
 * with the length of a file: 11 to 23 MB a million rows (8 bytes a slot, 35 to 70% of them taken).
 * The whole process peaked at 298 MB after ten million rows, and at 867 MB with a Map.
 */
export class FingerprintSet {
  #slots = new Float64Array(FIRST_CAPACITY);
  #size = 0;

  /** False when it was in there already. */
  add(fingerprint: number): boolean {
    // A free slot is 0, so numbers are kept one higher.
    const key = fingerprint + 1;
    if (!place(this.#slots, key)) return false;
    this.#size += 1;
    if (this.#size > this.#slots.length * MAX_LOAD) this.#grow();
    return true;
  }

  #grow(): void {
    const larger = new Float64Array(this.#slots.length * 2);
    for (const key of this.#slots) if (key !== 0) place(larger, key);
    this.#slots = larger;
  }
}

/** Linear probing. False when the key is there. */
function place(slots: Float64Array, key: number): boolean {
  let index = key % slots.length;
  for (let found = slots[index]; found !== 0; found = slots[index]) {
    if (found === key) return false;
    index = index + 1 === slots.length ? 0 : index + 1;
  }
  slots[index] = key;
  return true;
}
