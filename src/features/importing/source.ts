import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline, type Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { AppError } from "../../core/errors.ts";

/** The name by which standard input is asked for. */
export const STDIN = "-";

const READ_BYTES = 256 * 1024;
const NEWLINE = 0x0a;
const GZIP_MAGIC = [0x1f, 0x8b] as const;

/**
 * The bytes of a file or of standard input, inflated when they begin like gzip, and checked to be
 * UTF-8 without NUL. Read only as fast as they are taken. Throws `invalid_input` with a sentence
 * that names the problem.
 */
export async function* readTextBytes(path: string): AsyncGenerator<Buffer> {
  const utf8 = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  let last: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of inflateIfGzip(openBytes(path))) {
      line += countLines(last, last.length);
      last = chunk;
      const nul = chunk.indexOf(0);
      if (nul !== -1)
        throw badFile(path, `holds a NUL on line ${line + countLines(chunk, nul)}, so it is not text`);
      utf8.decode(chunk, { stream: true });
      yield chunk;
    }
    utf8.decode();
  } catch (error) {
    if (codeOf(error) !== "ERR_ENCODING_INVALID_ENCODED_DATA") throw explained(path, error);
    const beforeBad = last.toString().split("\ufffd", 1)[0] ?? "";
    const badLine = line + beforeBad.split("\n").length - 1;
    throw badFile(path, `is not UTF-8 text on line ${badLine}; convert it first, e.g. with iconv`, error);
  }
}

/**
 * Reads a regular file to its end, so that a broken one is refused before anything is stored:
 * damaged gzip data can look like rows until the checksum at its end. A pipe can't be read twice.
 * Throws as above.
 */
export async function checkWholeFile(path: string): Promise<void> {
  if (path === STDIN) return;
  const found = await stat(path).catch((error) => {
    throw explained(path, error);
  });
  if (found.isDirectory()) throw badFile(path, "is a directory, not a file");
  if (found.isFile()) for await (const _ of readTextBytes(path));
}

function countLines(chunk: Buffer, end: number): number {
  let lines = 0;
  for (let at = chunk.indexOf(NEWLINE); at !== -1 && at < end; at = chunk.indexOf(NEWLINE, at + 1))
    lines += 1;
  return lines;
}

export function badFile(path: string, problem: string, cause?: unknown): AppError {
  const name = path === STDIN ? "Standard input" : path;
  return new AppError("invalid_input", `${name} ${problem}.`, { cause });
}

function openBytes(path: string): Readable {
  return path === STDIN ? process.stdin : createReadStream(path, { highWaterMark: READ_BYTES });
}

async function* inflateIfGzip(source: Readable): AsyncGenerator<Buffer> {
  try {
    const chunks = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    // A pipe may deliver the two magic bytes one by one.
    let head = Buffer.alloc(0);
    while (head.length < GZIP_MAGIC.length) {
      const { done, value } = await chunks.next();
      if (done) break;
      head = Buffer.concat([head, value]);
    }
    const all = startingWith(head, chunks);
    if (!GZIP_MAGIC.every((byte, index) => head[index] === byte)) yield* all;
    else yield* pipeline(all, createGunzip({ chunkSize: READ_BYTES }), () => {}) as AsyncIterable<Buffer>;
  } finally {
    source.destroy();
  }
}

async function* startingWith(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

function explained(path: string, error: unknown): unknown {
  if (error instanceof AppError) return error;
  const code = codeOf(error);
  if (code === "ENOENT") return badFile(path, "does not exist", error);
  if (code === "EACCES" || code === "EPERM") return badFile(path, "may not be read by this user", error);
  if (code.startsWith("Z_"))
    return badFile(path, "is damaged or cut off: its gzip data does not inflate", error);
  return error;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}
