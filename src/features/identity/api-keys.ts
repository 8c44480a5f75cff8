import { randomToken, sha256 } from "../../core/ids.ts";

/**
 * `ffs_` secret and `ffp_` publishable keys: 32 random bytes, of which only a SHA-256 is stored.
 */
const PREFIX = { secret: "ffs_", publishable: "ffp_" } as const;
export type ApiKeyKind = keyof typeof PREFIX;

const SHOWN_CHARACTERS = 10;

export function makeApiKey(kind: ApiKeyKind): { key: string; keyHash: string; prefix: string } {
  const key = PREFIX[kind] + randomToken(32);
  return { key, keyHash: sha256(key), prefix: key.slice(0, SHOWN_CHARACTERS) };
}

export function looksLikeApiKey(credential: string): boolean {
  return credential.startsWith(PREFIX.secret) || credential.startsWith(PREFIX.publishable);
}
