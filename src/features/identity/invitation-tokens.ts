import { createHmac, timingSafeEqual } from "node:crypto";
import { isUuid } from "../../core/ids.ts";

/** What a token names: an invitation of a tenant. */
export interface InvitationName {
  tenantId: string;
  id: string;
}

/** `<tenant>.<invitation>.<HMAC-SHA256 of both>`: proof that we made it, without anything to store. */
export interface InvitationTokens {
  sign(name: InvitationName): string;
  /** Null unless the token was signed here. */
  verify(token: string): InvitationName | null;
}

/** Signs with `secret`; also accepts tokens of `previous`, so that an invitation outlives a change of the secret. */
export function createInvitationTokens(secret: string, previous: string | null): InvitationTokens {
  const accepted = previous === null ? [secret] : [secret, previous];
  const signatureOf = (text: string, key = secret) =>
    createHmac("sha256", key).update(`invitation ${text}`).digest("base64url");
  return {
    sign: ({ tenantId, id }) => `${tenantId}.${id}.${signatureOf(`${tenantId}.${id}`)}`,
    verify(token) {
      const [tenantId = "", id = "", signature = ""] = token.split(".");
      const given = Buffer.from(signature);
      const genuine = accepted.some((key) => {
        const expected = Buffer.from(signatureOf(`${tenantId}.${id}`, key));
        return given.length === expected.length && timingSafeEqual(given, expected);
      });
      return genuine && isUuid(tenantId) && isUuid(id) ? { tenantId, id } : null;
    },
  };
}
