import { createHash, randomBytes } from "node:crypto";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Time-ordered UUIDv7 (RFC 9562). `timeMs` sets its timestamp part, in milliseconds since the epoch. */
export function newId(timeMs: number = Date.now()): string {
  return Bun.randomUUIDv7("hex", timeMs);
}

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** The 48-bit millisecond timestamp that a UUIDv7 starts with. */
export function timeOfId(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** Random URL-safe text carrying `bytes` bytes of entropy. */
export function randomToken(bytes: number): string {
  return randomBytes(bytes).toString("base64url");
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
