import type { RequestContext } from "../../core/principal.ts";

/** No seller's id is empty: a seller without one owns nothing. */
const NOBODY = "";

/**
 * Whose products and imports a request may see: those of one seller, or, for null, all of the
 * tenant.
 */
export function visibleSeller({ principal, sellerId }: RequestContext): string | null {
  const isSeller = principal.kind === "user" && principal.role === "seller";
  return sellerId ?? (isSeller ? NOBODY : null);
}
