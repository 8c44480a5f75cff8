import { createHash, randomBytes, randomFillSync } from "node:crypto";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Time-ordered UUIDv7 (RFC 9562), monotonic in this process. */
export function newId(): string {
  return Bun.randomUUIDv7();
}

const RANDOM_BYTES = 8;
const pool = Buffer.alloc(RANDOM_BYTES * 512);
let used = pool.length;
let lastTimeMs = -1;
let counter = 0;

/**
 * A UUIDv7 whose timestamp is exactly `timeMs` (milliseconds since the epoch). 12 bits count the
 * ids made in a row for one millisecond, so they sort as they were made; 62 bits are random. Bun's
 * own function moves the timestamp when the count overflows, and an event's id must have the
 * event's time.
 */
export function idAt(timeMs: number): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  counter = timeMs === lastTimeMs ? (counter + 1) & 0xfff : 0;
  lastTimeMs = timeMs;
  pool[used] = 0x80 | ((pool[used] ?? 0) & 0x3f);
  const random = pool.toString("hex", used, used + RANDOM_BYTES);
  used += RANDOM_BYTES;
  const time = timeMs.toString(16).padStart(12, "0");
  const count = counter.toString(16).padStart(3, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${random.slice(0, 4)}-${random.slice(4)}`;
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
