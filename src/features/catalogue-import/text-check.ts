import { isUtf8 } from "node:buffer";
import { AppError } from "../../core/errors.ts";

const NEWLINE = 0x0a;
const CONTINUATION = 0x80;
const UTF16_BOMS = [
  [0xff, 0xfe],
  [0xfe, 0xff],
] as const;

export interface TextCheck {
  /** Throws `malformed_body` for what is not UTF-8 text. */
  add(chunk: Uint8Array): void;
  end(): void;
}

/**
 * Checks a file while it arrives, so that one that is no text is refused before anything of it is
 * imported.
 */
export function createTextCheck(): TextCheck {
  let line = 1;
  let started = false;
  /** The first bytes of a character whose rest is in the next chunk. */
  let cut: Buffer = Buffer.alloc(0);

  return {
    add(chunk) {
      const bytes =
        cut.length > 0
          ? Buffer.concat([cut, chunk])
          : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
      if (!started && UTF16_BOMS.some(([first, second]) => bytes[0] === first && bytes[1] === second))
        throw new AppError("malformed_body", "The file is UTF-16; save it as UTF-8.");
      started ||= bytes.length > 1;
      const nul = bytes.indexOf(0);
      if (nul !== -1) {
        const where = line + countLines(bytes, nul);
        throw new AppError(
          "malformed_body",
          `The file holds a NUL on line ${where}, so it is not UTF-8 text.`,
        );
      }
      const whole = bytes.length - cutLength(bytes);
      if (!isUtf8(bytes.subarray(0, whole))) throw notUtf8(line + countLines(bytes, firstBad(bytes)));
      line += countLines(bytes, whole);
      cut = Buffer.from(bytes.subarray(whole));
    },
    end() {
      if (cut.length > 0) throw notUtf8(line);
    },
  };
}

function notUtf8(line: number): AppError {
  return new AppError("malformed_body", `The file is not UTF-8 on line ${line}; save it as UTF-8.`);
}

export function countLines(bytes: Buffer, end: number): number {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at !== -1 && at < end; at = bytes.indexOf(NEWLINE, at + 1))
    lines += 1;
  return lines;
}

/** How many bytes at the end are the beginning of a character. */
function cutLength(bytes: Buffer): number {
  for (let length = 1; length <= Math.min(3, bytes.length); length += 1) {
    const byte = bytes[bytes.length - length] ?? 0;
    if (byte < CONTINUATION) return 0;
    if (byte >= 0xc0) return (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) > length ? length : 0;
  }
  return 0;
}

/** Where the first byte that is no UTF-8 stands, by halving. */
function firstBad(bytes: Buffer): number {
  let [good, bad] = [0, bytes.length];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const part = bytes.subarray(0, middle);
    if (isUtf8(part.subarray(0, part.length - cutLength(part)))) good = middle;
    else bad = middle;
  }
  return good;
}
