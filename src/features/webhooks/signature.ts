import { createHmac, randomBytes } from "node:crypto";

/**
 * Signatures by the Standard Webhooks specification
 * (github.com/standard-webhooks/standard-webhooks): an HMAC-SHA256 of `id.timestamp.body`. By
 * node:crypto rather than the `standardwebhooks` package, which hashes in JavaScript and signs with
 * one secret only. The tests verify with that package.
 */
const SECRET_PREFIX = "whsec_";
/** The specification asks for 24 to 64. */
const SECRET_BYTES = 32;

export function makeSecret(): string {
  return SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("base64");
}

/**
 * The `webhook-signature` header: one signature a secret. `timestamp` is in seconds since the
 * epoch.
 */
export function sign(secrets: readonly string[], id: string, timestamp: number, body: string): string {
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(SECRET_PREFIX.length), "base64");
    return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`;
  });
  return signatures.join(" ");
}
