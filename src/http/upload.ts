import { type MultipartError, make } from "multipasta";
import { withDeadline } from "../core/deadline.ts";
import { AppError } from "../core/errors.ts";

/**
 * A file that is uploaded as the body itself or as the one part of a form. It is read only as fast
 * as it is taken, so neither the body limit nor the deadline of other requests applies. A client
 * that all but stops sending is disconnected.
 */
export interface UploadOptions {
  mediaType: string;
  /** Name of the form's part that is the file. */
  part: string;
  maxBytes: number;
  /** How long a client may send hardly anything. */
  stallMs?: number;
}

const FORM = "multipart/form-data";
/** Boundaries and the headers of the part. */
const FORM_OVERHEAD_BYTES = 64 * 1024;
/**
 * A client must send STALL_BYTES while we have waited for it for this long. Our own slowness does
 * not count.
 */
const STALL_MS = 30_000;
const STALL_BYTES = 16 * 1024;

/** Throws 415 and 413 at once, and 400 and 413 while the file is read. */
export function openUpload(request: Request, options: UploadOptions): AsyncIterable<Uint8Array> {
  const contentType = request.headers.get("content-type") ?? "";
  const [mediaType = ""] = contentType.toLowerCase().split(";", 1);
  const charset = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(contentType)?.[1]?.toLowerCase() ?? "utf-8";
  const isForm = mediaType.trim() === FORM;
  if (!isForm && mediaType.trim() !== options.mediaType)
    throw new AppError("unsupported_media_type", `Content-Type must be ${options.mediaType} or ${FORM}.`);
  if (!/^utf-?8$/.test(charset)) throw new AppError("unsupported_media_type", "The charset must be UTF-8.");
  if (request.headers.has("content-encoding"))
    throw new AppError("unsupported_media_type", "Content-Encoding must be absent.");
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > options.maxBytes + (isForm ? FORM_OVERHEAD_BYTES : 0)) throw tooLarge(options.maxBytes);
  const body = readBody(request, options.stallMs ?? STALL_MS);
  return atMost(isForm ? readPart(body, contentType, options.part) : body, options.maxBytes);
}

async function* atMost(chunks: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw tooLarge(maxBytes);
    yield chunk;
  }
}

async function* readBody(request: Request, stallMs: number): AsyncGenerator<Uint8Array> {
  const reader = request.body?.getReader();
  if (!reader) return;
  let [waitedMs, bytes] = [0, 0];
  try {
    for (;;) {
      const startedAt = performance.now();
      const { done, value } = await withDeadline(reader.read(), stallMs - waitedMs, stalled).catch(
        refuseBroken,
      );
      if (done) return;
      waitedMs += performance.now() - startedAt;
      bytes += value.length;
      if (bytes >= STALL_BYTES) [waitedMs, bytes] = [0, 0];
      else if (waitedMs >= stallMs) throw stalled();
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The bytes of the form's one file part. */
async function* readPart(
  body: AsyncIterable<Uint8Array>,
  contentType: string,
  name: string,
): AsyncGenerator<Uint8Array> {
  let found: Uint8Array[] = [];
  let [parts, ended] = [0, false];
  let problem: string | null = null;
  const form = make({
    headers: { "content-type": contentType },
    maxFieldSize: FORM_OVERHEAD_BYTES,
    isFile: (part) => part.name === name,
    onFile: () => {
      parts += 1;
      if (parts > 1) problem = `The form has several parts named "${name}".`;
      return (chunk) => void (chunk && found.push(chunk));
    },
    onField: (part) => {
      problem = `The form has a part ${JSON.stringify(part.name.slice(0, 60))}; only "${name}" is read.`;
    },
    onError: (error) => {
      problem ??= explain(error);
    },
    onDone: () => {
      ended = true;
    },
  });
  for await (const chunk of body) {
    if (ended) break;
    try {
      form.write(chunk);
    } catch {
      problem ??= "The form can't be read.";
    }
    if (problem !== null) throw badForm(problem);
    yield* found;
    found = [];
  }
  if (problem !== null) throw badForm(problem);
  if (!ended) throw badForm("The form ends before its last boundary.");
  if (parts === 0) throw badForm(`The form has no part named "${name}".`);
}

function explain(error: MultipartError): string {
  if (error._tag === "InvalidBoundary") return "The Content-Type names no boundary.";
  if (error._tag === "ReachedLimit") return "A part of the form that is not the file is too large.";
  return "The form can't be read.";
}

function badForm(detail: string): AppError {
  return new AppError("malformed_body", detail);
}

function tooLarge(maxBytes: number): AppError {
  return new AppError("too_large", `The file is larger than ${maxBytes} bytes.`);
}

function stalled(): AppError {
  return new AppError("malformed_body", "The upload stopped: hardly a byte came for half a minute.", {
    headers: { connection: "close" },
  });
}

/** What Bun rejects a read with is a connection that broke off. */
function refuseBroken(error: unknown): never {
  if (error instanceof AppError) throw error;
  throw new AppError("malformed_body", "The upload broke off.", { cause: error });
}
