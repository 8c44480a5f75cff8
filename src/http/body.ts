import { AppError } from "../core/errors.ts";

const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true });

export interface BodyLimits {
  /** After inflation. */
  maxBytes: number;
  mediaTypes: readonly string[];
}

/**
 * A request's body as text, for routes that parse it themselves. Checks media type and size,
 * inflates gzip (never beyond `maxBytes`), and accepts only valid UTF-8. Throws 413, 415 and 400 as
 * AppError.
 */
export async function readText(
  request: Request,
  limits: BodyLimits,
): Promise<{ mediaType: string; text: string }> {
  const mediaType = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
  if (!limits.mediaTypes.includes(mediaType)) {
    throw new AppError("unsupported_media_type", `Content-Type must be ${limits.mediaTypes.join(" or ")}.`);
  }
  const bytes = await readBytes(request, limits.maxBytes);
  try {
    return { mediaType, text: STRICT_UTF8.decode(bytes) };
  } catch {
    throw new AppError("malformed_body", "The body is not valid UTF-8.");
  }
}

/** JSON.parse with the contract's error. `what` begins the sentence, e.g. "The body". */
export function parseJson(text: string, what = "The body"): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new AppError("malformed_body", `${what} is not valid JSON.`);
  }
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const encoding = request.headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity" && encoding !== "gzip") {
    throw new AppError("unsupported_media_type", "Content-Encoding must be gzip or absent.");
  }
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  if (!request.body) return new Uint8Array();
  // A declared length is all that the server reads, so this is bounded already.
  if (encoding === "identity" && declared > 0) return new Uint8Array(await request.arrayBuffer());
  if (encoding === "identity") return collect(request.body, maxBytes);
  try {
    return await collect(request.body.pipeThrough(new DecompressionStream("gzip")), maxBytes);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("malformed_body", "The body is not valid gzip.");
  }
}

async function collect(chunks: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge(maxBytes);
    parts.push(chunk);
  }
  return Buffer.concat(parts, size);
}

function tooLarge(maxBytes: number): AppError {
  return new AppError("too_large", `The body is larger than ${maxBytes} bytes.`);
}
