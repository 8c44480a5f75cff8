import type { Principal, Role, Scope } from "./principal.ts";

/**
 * Who may do what, as one table: operation -> the roles of a person and the scope of a key that allow it. The
 * authorization middleware and the `security` of the OpenAPI document are both made from it. `null` scope: no API key.
 */
export interface AccessRule {
  roles: readonly Role[];
  scope: Scope | null;
}

const EVERYONE: readonly Role[] = ["admin", "seller", "analyst", "customer"];
/** Not sellers: they may see their own products only, and these answers are of the whole shop. */
const ANALYSTS: readonly Role[] = ["admin", "analyst"];

export const ACCESS = {
  register: "public",
  login: "public",
  refresh: "public",
  logout: "public",
  getMe: { roles: EVERYONE, scope: null },
  createApiKey: { roles: ["admin"], scope: "admin" },
  listApiKeys: { roles: ["admin"], scope: "admin" },
  revokeApiKey: { roles: ["admin"], scope: "admin" },
  createEvent: { roles: ["admin", "seller", "customer"], scope: "events:write" },
  createEvents: { roles: ["admin", "seller", "customer"], scope: "events:write" },
  listEvents: { roles: ["admin", "analyst"], scope: "events:read" },
  getEvent: { roles: ["admin", "analyst"], scope: "events:read" },
  getTopProducts: { roles: ANALYSTS, scope: "analytics:read" },
  getProductTimeseries: { roles: ANALYSTS, scope: "analytics:read" },
  getMySummary: { roles: EVERYONE, scope: null },
  getUserSummary: { roles: ["admin", "analyst"], scope: "analytics:read" },
  getSummary: { roles: ANALYSTS, scope: "analytics:read" },
  getBreakdown: { roles: ANALYSTS, scope: "analytics:read" },
  listDeadLetters: { roles: ["admin"], scope: "admin" },
  retryDeadLetter: { roles: ["admin"], scope: "admin" },
  getHealth: "public",
  getLiveness: "public",
  getReadiness: "public",
  getReadinessAlias: "public",
  getMetrics: "public",
} as const satisfies Record<string, AccessRule | "public">;

export type OperationId = keyof typeof ACCESS;

export function accessRule(operation: OperationId): AccessRule | "public" {
  return ACCESS[operation];
}

export function isAllowed(rule: AccessRule, principal: Principal): boolean {
  if (principal.kind === "user") return rule.roles.includes(principal.role);
  return rule.scope !== null && (principal.scopes.includes(rule.scope) || principal.scopes.includes("admin"));
}
