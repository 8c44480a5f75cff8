import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { StoredProduct } from "./product.ts";

/**
 * Which products a request can see: those of one seller or of the whole tenant; a customer only
 * active ones.
 */
export interface Visibility {
  owner?: string;
  activeOnly: boolean;
}

/** A seller whose membership names no seller owns nothing: no seller has this id. */
const NOBODY = "";

export function visibilityOf({ principal, sellerId }: RequestContext): Visibility {
  const role = principal.kind === "user" ? principal.role : null;
  const owner = sellerId ?? (role === "seller" ? NOBODY : undefined);
  return { ...(owner === undefined ? {} : { owner }), activeOnly: role === "customer" };
}

export function isVisible({ owner, activeOnly }: Visibility, product: StoredProduct): boolean {
  if (activeOnly && product.status !== "active") return false;
  return owner === undefined || product.sellerId === owner;
}

/**
 * Who owns a written product: whoever acts for a seller writes for that seller only. `named` is the
 * seller in the body. Throws `forbidden` when it names another.
 */
export function ownerOf(ctx: RequestContext, named: string | null): string | null {
  const { owner } = visibilityOf(ctx);
  if (owner === undefined) return named;
  if (owner === NOBODY) throw new AppError("forbidden", "Your membership names no seller to write for.");
  if (named !== null && named !== owner)
    throw new AppError("forbidden", `Acting for a seller, sellerId can't be another's.`);
  return owner;
}
