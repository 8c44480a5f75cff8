import { sha256 } from "./ids.ts";

/** JSON that is ready to be sent: its bytes, and a tag that changes with them. */
export interface PreparedJson<T> {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly tag: string;
  readonly value: T;
}

/** 128 bits: nobody searches for collisions among its own answers, and none happens by chance. */
const HASH_LENGTH = 32;
const encoder = new TextEncoder();

/**
 * JSON that is written once and sent many times: its text, a hash of it, and its value for code
 * that needs it parsed.
 */
export class JsonText<T> {
  /** Hits in a row are equal, and encoding costs as much as all the rest of a hit. */
  #lastExtended: { added: string; bytes: Uint8Array<ArrayBuffer>; tag: string } | undefined;

  constructor(
    readonly text: string,
    readonly hash: string,
  ) {}

  static of<T>(value: T): JsonText<T> {
    const text = JSON.stringify(value);
    return new JsonText<T>(text, sha256(text).slice(0, HASH_LENGTH));
  }

  /** Parsed each time, so that nobody holds what another one changes. */
  get value(): T {
    return JSON.parse(this.text) as T;
  }

  /**
   * This object with one more property at its end; `json` is that property's value. The object must
   * not be empty.
   */
  extendedBy(name: string, json: string): { bytes: Uint8Array<ArrayBuffer>; tag: string } {
    const added = `,"${name}":${json}}`;
    if (this.#lastExtended?.added !== added) {
      const bytes = encoder.encode(this.text.slice(0, -1) + added);
      this.#lastExtended = { added, bytes, tag: `${this.hash}-${Bun.hash(added).toString(36)}` };
    }
    return this.#lastExtended;
  }
}
