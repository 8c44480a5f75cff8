import type { Priority } from "./priority.ts";

export type Role = "admin" | "seller" | "analyst" | "customer";

export const SCOPES = [
  "events:write",
  "events:read",
  "analytics:read",
  "products:read",
  "products:write",
  "orders:read",
  "orders:write",
  "admin",
] as const;
export type Scope = (typeof SCOPES)[number];

/** Who is calling, after the check of the credential. The operator uses the command line. */
export type Principal =
  | { kind: "user"; userId: string; tenantId: string; role: Role; sellerId: string | null }
  | { kind: "apiKey"; keyId: string; tenantId: string; scopes: readonly Scope[]; publishable: boolean }
  | { kind: "operator"; tenantId: string };

/** What every verb of a feature is called with. */
export interface RequestContext {
  tenantId: string;
  principal: Principal;
  requestId: string;
  /**
   * The seller that the request acts for: its own, or the one that X-Seller-Id names; null for the
   * whole tenant.
   */
  sellerId: string | null;
  /** How much the request matters under load; normal unless said. */
  priority?: Priority;
}

/** The context of a verb that the command line calls. */
export function operatorContext(tenantId: string): RequestContext {
  return { tenantId, principal: { kind: "operator", tenantId }, requestId: "cli", sellerId: null };
}

/** A seller's membership names the seller that it acts for; no other role's does. */
export function namesItsSeller(role: Role, sellerId: string | null | undefined): boolean {
  return (role === "seller") === (sellerId !== null && sellerId !== undefined);
}

/**
 * Whether it speaks for the shop, not for a visitor: anybody can read a publishable key or register
 * as a customer.
 */
export function isOfTheShop(principal: Principal): boolean {
  if (principal.kind === "user") return principal.role !== "customer";
  return principal.kind === "operator" || !principal.publishable;
}

/** One text a principal, for keys and logs: kind and id. */
export function principalName(principal: Principal): string {
  if (principal.kind === "user") return `user:${principal.userId}`;
  return principal.kind === "apiKey" ? `key:${principal.keyId}` : "operator";
}

/**
 * Whom a principal acts for when it names `sellerId` (X-Seller-Id): an admin, or a key that may
 * write products, for any seller; a seller for itself only. Undefined when it may not. A seller
 * whose membership names none acts for nobody, since null would be the whole tenant.
 */
export function actingSeller(principal: Principal, sellerId: string | undefined): string | null | undefined {
  if (principal.kind === "user" && principal.role === "seller") {
    const own = principal.sellerId ?? undefined;
    return sellerId === undefined || sellerId === own ? own : undefined;
  }
  if (sellerId === undefined) return null;
  const mayAct =
    principal.kind === "apiKey"
      ? principal.scopes.includes("products:write") || principal.scopes.includes("admin")
      : principal.kind === "operator" || principal.role === "admin";
  return mayAct ? sellerId : undefined;
}

/**
 * The priority of a request, by who asks and what X-Priority asks for. Staff come first. Customers,
 * sellers and callers without a credential may be anybody, so they can't push others aside. Keys
 * without analytics are the shop's own servers: normal, unless they ask for another priority.
 */
export function grantedPriority(principal: Principal | null, asked: Priority | undefined): Priority {
  if (principal === null || (principal.kind === "user" && !STAFF_ROLES.includes(principal.role)))
    return asked === "low" ? "low" : "normal";
  const isStaff =
    principal.kind !== "apiKey" || STAFF_SCOPES.some((scope) => principal.scopes.includes(scope));
  return asked ?? (isStaff ? "high" : "normal");
}

const STAFF_ROLES: readonly Role[] = ["admin", "analyst"];
const STAFF_SCOPES: readonly Scope[] = ["admin", "analytics:read"];
