/** Who is calling, once the credential has been checked. */
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

export type Principal =
  | { kind: "user"; userId: string; tenantId: string; role: Role }
  | { kind: "apiKey"; keyId: string; tenantId: string; scopes: readonly Scope[] };

/** What every verb of a feature is called with. */
export interface RequestContext {
  tenantId: string;
  principal: Principal;
  requestId: string;
}
