import { createHmac, timingSafeEqual } from "node:crypto";
import { isUuid } from "../../core/ids.ts";

/** What a token names: an invitation of a tenant. */
export interface InvitationName {
  tenantId: string;
  id: string;
}

/**
 * `<tenant>.<invitation>.<HMAC-SHA256 of both>`: proof that we made it, without storing anything.
 */
export interface InvitationTokens {
  sign(name: InvitationName): string;
  /** Null unless the token was signed here. */
  verify(token: string): InvitationName | null;
}

/**
 * Signs with `secret`. Also accepts tokens signed with `previous`, so that invitations outlive a
 * change of the secret.
 */
export function createInvitationTokens(secret: string, previous: string | null): InvitationTokens {
  const accepted = previous === null ? [secret] : [secret, previous];
  const isGenuine = (text: string, signature: string) => {
    const given = Buffer.from(signature);
    return accepted.some((key) => {
      const expected = Buffer.from(signatureOf(text, key));
      return given.length === expected.length && timingSafeEqual(given, expected);
    });
  };
  return {
    sign: ({ tenantId, id }) => `${tenantId}.${id}.${signatureOf(`${tenantId}.${id}`, secret)}`,
    verify(token) {
      const [tenantId = "", id = "", signature = ""] = token.split(".");
      const named = isUuid(tenantId) && isUuid(id) ? { tenantId, id } : null;
      return isGenuine(`${tenantId}.${id}`, signature) ? named : null;
    },
  };
}

function signatureOf(text: string, secret: string): string {
  return createHmac("sha256", secret).update(`invitation ${text}`).digest("base64url");
}
