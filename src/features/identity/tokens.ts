import { jwtVerify, SignJWT } from "jose";
import { AppError } from "../../core/errors.ts";
import { randomToken, sha256 } from "../../core/ids.ts";
import type { Role } from "../../core/principal.ts";

/**
 * Access tokens are HS256 JWTs (RFC 7519) naming user, tenant and role; refresh tokens are opaque
 * and stored hashed.
 */
export const ACCESS_TOKEN_SECONDS = 15 * 60;
const REFRESH_TOKEN_DAYS = 30;

const ISSUER = "footfall";
const AUDIENCE = "footfall-api";

export interface AccessClaims {
  userId: string;
  tenantId: string;
  role: Role;
  /** The user's when the token was made, see `users.session_version`. */
  sessionVersion: number;
  expiresAtMs: number;
}

export interface AccessTokens {
  sign(claims: Omit<AccessClaims, "expiresAtMs">): Promise<string>;
  /** Throws `unauthenticated` unless signature, algorithm, issuer, audience and expiry all hold. */
  verify(token: string): Promise<AccessClaims>;
}

/**
 * Signs with `secret`. Also accepts tokens of `previous`, told apart by `kid`, so that a secret can
 * be changed.
 */
export function createAccessTokens(secret: string, previous: string | null): AccessTokens {
  const keyOf = (text: string) => new TextEncoder().encode(text);
  const kidOf = (text: string) => sha256(text).slice(0, 8);
  const key = keyOf(secret);
  const kid = kidOf(secret);
  const accepted = new Map([[kid, key]]);
  if (previous) accepted.set(kidOf(previous), keyOf(previous));
  const keyFor = ({ kid: named }: { kid?: string }) => {
    const found = accepted.get(named ?? "");
    if (!found) throw new Error("the token was signed with another key");
    return found;
  };
  return {
    sign: ({ userId, tenantId, role, sessionVersion }) =>
      new SignJWT({ tenantId, role, sessionVersion })
        .setProtectedHeader({ alg: "HS256", typ: "JWT", kid })
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setSubject(userId)
        .setIssuedAt()
        .setExpirationTime(`${ACCESS_TOKEN_SECONDS}s`)
        .sign(key),
    async verify(token) {
      try {
        const { payload } = await jwtVerify<{ tenantId: string; role: Role; sessionVersion?: number }>(
          token,
          keyFor,
          {
            algorithms: ["HS256"],
            issuer: ISSUER,
            audience: AUDIENCE,
            requiredClaims: ["sub", "exp", "tenantId", "role"],
          },
        );
        // Tokens of processes from before sessions could be ended have none.
        const { sub = "", exp = 0, tenantId, role, sessionVersion = 0 } = payload;
        return { userId: sub, tenantId, role, sessionVersion, expiresAtMs: exp * 1000 };
      } catch (error) {
        throw new AppError(
          "unauthenticated",
          "The token is not valid or has expired: POST /auth/refresh or /auth/login gives a new one.",
          { cause: error },
        );
      }
    },
  };
}

/** A new refresh token, what is stored of it, and when it ends. */
export function makeRefreshToken(): { token: string; tokenHash: string; expiresAt: Date } {
  const token = randomToken(32);
  return {
    token,
    tokenHash: sha256(token),
    expiresAt: new Date(Date.now() + REFRESH_TOKEN_DAYS * 86_400_000),
  };
}
