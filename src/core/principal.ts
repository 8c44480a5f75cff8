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

/** Who is calling, once the credential has been checked. The operator sits at the command line. */
export type Principal =
  | { kind: "user"; userId: string; tenantId: string; role: Role; sellerId: string | null }
  | { kind: "apiKey"; keyId: string; tenantId: string; scopes: readonly Scope[] }
  | { kind: "operator"; tenantId: string };

/** What every verb of a feature is called with. */
export interface RequestContext {
  tenantId: string;
  principal: Principal;
  requestId: string;
}

/** The context of a verb that the command line calls. */
export function operatorContext(tenantId: string): RequestContext {
  return { tenantId, principal: { kind: "operator", tenantId }, requestId: "cli" };
}

/** One text a principal, for keys and logs: kind and id. */
export function principalName(principal: Principal): string {
  if (principal.kind === "user") return `user:${principal.userId}`;
  return principal.kind === "apiKey" ? `key:${principal.keyId}` : "operator";
}
