import { timingSafeEqual } from "node:crypto";
import { AppError } from "../../core/errors.ts";
import { isUuid, sha256 } from "../../core/ids.ts";
import type { Principal } from "../../core/principal.ts";
import type { Database, Sql } from "../../db/client.ts";
import { isAway } from "../../db/failures.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import { looksLikeApiKey } from "./api-keys.ts";
import { findApiKey, touchApiKey } from "./api-keys-repository.ts";
import { findMembership } from "./repository.ts";
import type { AccessTokens } from "./tokens.ts";

/**
 * Checked credentials are remembered for two seconds: an event must not cost a signature check and
 * a query, and a revoked key must be refused everywhere within five. While Postgres is away nobody
 * can revoke anything, so a credential checked a while ago is still good for answers from the
 * cache.
 */
const REMEMBER_MS = 2_000;
const TRUST_WITHOUT_POSTGRES_MS = 15 * 60_000;
const MAX_REMEMBERED = 10_000;

interface Remembered {
  principal: Principal;
  checkedAtMs: number;
  expiresAtMs: number;
}

export function createCredentialVerifier(
  { orm, lookUps }: Database,
  tokens: AccessTokens,
  guard: Pick<ReadGuard, "lookUp">,
  maxRemembered = MAX_REMEMBERED,
) {
  const remembered = new Map<string, Remembered>();
  /** Checks under way: all requests of a key share one. */
  const checks = new Map<string, Promise<Principal>>();

  function remember(name: string, principal: Principal, expiresAtMs: number): Principal {
    // Insertion order is age order, so the first entry is the one to drop.
    remembered.delete(name);
    const oldest = remembered.keys().next().value;
    if (remembered.size >= maxRemembered && oldest !== undefined) remembered.delete(oldest);
    remembered.set(name, { principal, checkedAtMs: Date.now(), expiresAtMs });
    return principal;
  }

  function recall(name: string, maxAgeMs: number): Principal | null {
    const known = remembered.get(name);
    const holds = known && known.expiresAtMs > Date.now() && known.checkedAtMs + maxAgeMs > Date.now();
    return holds ? known.principal : null;
  }

  async function check(name: string, credential: string, tenantId: string | undefined): Promise<Principal> {
    if (tenantId !== undefined && !isUuid(tenantId)) throw forbiddenTenant();
    if (looksLikeApiKey(credential)) {
      const { principal, expiresAtMs } = await guard.lookUp(() => checkApiKey(lookUps, credential, tenantId));
      return remember(name, principal, expiresAtMs);
    }
    const claims = await tokens.verify(credential);
    const { userId } = claims;
    const chosen = tenantId ?? claims.tenantId;
    // The token says what the role was. The membership says what it is, within the seconds that a
    // check is remembered.
    const membership = await guard.lookUp(() => findMembership(orm, chosen, userId));
    if (!membership) throw forbiddenTenant();
    const { sessionVersion, ...standing } = membership;
    if (sessionVersion !== claims.sessionVersion)
      throw new AppError("unauthenticated", "All sessions of this account were ended: sign in again.");
    const principal: Principal = { kind: "user", userId, tenantId: chosen, ...standing };
    return remember(name, principal, claims.expiresAtMs);
  }

  /**
   * The principal behind a bearer token or API key; synchronous when it was checked a moment ago.
   * `keyOnly`: sent as X-Api-Key, where a token is not accepted. `admitUnknown` is called before a
   * credential is checked that was not found good before, and refuses it by throwing.
   */
  return function verifyCredential(
    credential: string,
    namedTenant: string | undefined,
    keyOnly: boolean,
    admitUnknown: () => void = () => {},
  ): Principal | Promise<Principal> {
    if (keyOnly && !looksLikeApiKey(credential)) return Promise.reject(badApiKey());
    const tenantId = namedTenant?.toLowerCase();
    const name = tenantId === undefined ? credential : `${credential} ${tenantId}`;
    const known = recall(name, REMEMBER_MS);
    if (known) return known;
    const running = checks.get(name);
    if (running) return running;
    if (!remembered.has(name)) admitUnknown();
    const started = check(name, credential, tenantId)
      .catch((error) => {
        const trusted = isAway(error) ? recall(name, TRUST_WITHOUT_POSTGRES_MS) : null;
        if (trusted) return trusted;
        if (!isAway(error)) remembered.delete(name);
        throw error;
      })
      .finally(() => checks.delete(name));
    checks.set(name, started);
    return started;
  };
}

async function checkApiKey(sql: Sql, credential: string, tenantId: string | undefined) {
  const keyHash = sha256(credential);
  const row = await findApiKey(sql, keyHash);
  if (!row || !timingSafeEqual(Buffer.from(row.keyHash), Buffer.from(keyHash))) {
    throw badApiKey();
  }
  if (tenantId !== undefined && tenantId !== row.tenantId) throw forbiddenTenant();
  // Only for people to see; a check must not wait for it or fail with it.
  touchApiKey(sql, row.tenantId, row.id).catch(() => {});
  const principal: Principal = {
    kind: "apiKey",
    keyId: row.id,
    tenantId: row.tenantId,
    scopes: row.scopes,
    publishable: row.kind === "publishable",
  };
  return { principal, expiresAtMs: row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY };
}

function badApiKey(): AppError {
  return new AppError("unauthenticated", "The API key is not valid, was revoked or has expired.");
}

function forbiddenTenant(): AppError {
  return new AppError(
    "forbidden",
    "This credential does not belong to the tenant that X-Tenant-Id names; it takes an id, and GET /auth/me shows yours.",
  );
}
