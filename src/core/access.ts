import { TOPICS, type Topic } from "./domain-events.ts";
import type { Principal, Role, Scope } from "./principal.ts";
import type { OperationPolicyName } from "./rate-limits.ts";

/**
 * Who may do what, as one table: operation -> the roles of a person and the scope of a key that
 * allow it. The authorization middleware and the `security` of the OpenAPI document are made from
 * it. A `null` scope admits no API key.
 */
export interface AccessRule {
  roles: readonly Role[];
  scope: Scope | null;
  /** The rate limit policy that its requests count against. */
  limit: OperationPolicyName;
  /** Answered under any load: people read it when there is load. */
  neverShed?: true;
}

/** For everybody, without a credential; `limit` null: not limited. */
export interface PublicRule {
  public: true;
  limit: OperationPolicyName | null;
}

const EVERYONE: readonly Role[] = ["admin", "seller", "analyst", "customer"];
/** Not sellers: they may see their own products only, and these answers are of the whole shop. */
const ANALYSTS: readonly Role[] = ["admin", "analyst"];

const ADMINS: readonly Role[] = ["admin"];
const SIGN_IN: PublicRule = { public: true, limit: "auth" };
const OPEN: PublicRule = { public: true, limit: null };
const ADMINISTRATION: AccessRule = { roles: ADMINS, scope: "admin", limit: "standard" };
const INGEST: AccessRule = {
  roles: ["admin", "seller", "customer"],
  scope: "events:write",
  limit: "eventsWrite",
};
const EVENT_READS: AccessRule = { roles: ["admin", "analyst"], scope: "events:read", limit: "eventsRead" };
/** Customers read active products, sellers their own: features/products/visibility.ts. */
const CATALOGUE_READS: AccessRule = { roles: EVERYONE, scope: "products:read", limit: "standard" };
const CATALOGUE_WRITES: AccessRule = {
  roles: ["admin", "seller"],
  scope: "products:write",
  limit: "standard",
};
const NOTIFICATIONS: AccessRule = {
  roles: ["admin", "seller"],
  scope: "products:read",
  limit: "standard",
};
/**
 * Needed in addition to notifications: orders tell about customers, and about the products of many
 * sellers.
 */
const ORDER_NOTIFICATIONS: AccessRule = { roles: ADMINS, scope: "orders:read", limit: "standard" };
/** A seller's import reaches its own products only. */
const IMPORT_READS: AccessRule = { roles: ["admin", "seller"], scope: "products:write", limit: "standard" };
/** Customers reach only their own; sellers none, since an order holds the products of many. */
const ORDER_READS: AccessRule = {
  roles: ["admin", "analyst", "customer"],
  scope: "orders:read",
  limit: "standard",
};
const ORDER_WRITES: AccessRule = { roles: ["admin", "customer"], scope: "orders:write", limit: "standard" };
const ANALYTICS: AccessRule = { roles: ANALYSTS, scope: "analytics:read", limit: "analytics" };

export const ACCESS = {
  register: SIGN_IN,
  login: SIGN_IN,
  refresh: SIGN_IN,
  logout: SIGN_IN,
  changePassword: { roles: EVERYONE, scope: null, limit: "standard" },
  requestPasswordReset: SIGN_IN,
  confirmPasswordReset: SIGN_IN,
  getMe: { roles: EVERYONE, scope: null, limit: "standard" },
  getTenant: { roles: EVERYONE, scope: "admin", limit: "standard" },
  updateTenant: ADMINISTRATION,
  listProperties: { roles: ANALYSTS, scope: "analytics:read", limit: "standard" },
  chooseProperties: ADMINISTRATION,
  listMembers: ADMINISTRATION,
  inviteMember: ADMINISTRATION,
  listInvitations: ADMINISTRATION,
  revokeInvitation: ADMINISTRATION,
  acceptInvitation: { roles: EVERYONE, scope: null, limit: "standard" },
  updateMember: ADMINISTRATION,
  removeMember: ADMINISTRATION,
  createPasswordResetLink: { roles: ADMINS, scope: null, limit: "standard" },
  listAudit: ADMINISTRATION,
  createApiKey: ADMINISTRATION,
  listApiKeys: ADMINISTRATION,
  rotateApiKey: ADMINISTRATION,
  revokeApiKey: ADMINISTRATION,
  listProducts: CATALOGUE_READS,
  listCategories: CATALOGUE_READS,
  getProduct: CATALOGUE_READS,
  createProduct: CATALOGUE_WRITES,
  replaceProduct: CATALOGUE_WRITES,
  updateProduct: CATALOGUE_WRITES,
  deleteProduct: CATALOGUE_WRITES,
  restoreProduct: CATALOGUE_WRITES,
  createEvent: INGEST,
  createEvents: INGEST,
  listEvents: EVENT_READS,
  getEvent: EVENT_READS,
  exportEvents: EVENT_READS,
  voidEvent: ADMINISTRATION,
  linkSession: { roles: EVERYONE, scope: null, limit: "eventsWrite" },
  streamNotifications: NOTIFICATIONS,
  listNotifications: NOTIFICATIONS,
  readNotification: { ...NOTIFICATIONS, scope: "products:write" },
  importProducts: { ...IMPORT_READS, limit: "import" },
  listProductImports: IMPORT_READS,
  getProductImport: IMPORT_READS,
  getProductImportErrors: IMPORT_READS,
  exportProducts: { roles: ["admin", "seller", "analyst"], scope: "products:read", limit: "standard" },
  getTopProducts: ANALYTICS,
  getProductTimeseries: ANALYTICS,
  getMySummary: { roles: EVERYONE, scope: null, limit: "analytics" },
  getUserSummary: { roles: ["admin", "analyst"], scope: "analytics:read", limit: "analytics" },
  getSummary: ANALYTICS,
  getSummaryPage: ANALYTICS,
  streamSummary: ANALYTICS,
  getBreakdown: ANALYTICS,
  getProductStats: ANALYTICS,
  /** Shows values of raw events. */
  findProperties: { ...EVENT_READS, limit: "analytics" },
  getFunnel: ANALYTICS,
  getRetention: ANALYTICS,
  getRealtime: ANALYTICS,
  queryMetrics: ANALYTICS,
  getAnalyticsHealth: { ...ANALYTICS, neverShed: true },
  getAnalyticsCacheStats: ANALYTICS,
  clearAnalyticsCache: ADMINISTRATION,
  getCacheStats: ANALYTICS,
  listCacheKeys: ADMINISTRATION,
  clearCache: ADMINISTRATION,
  listWebhooks: ADMINISTRATION,
  createWebhook: ADMINISTRATION,
  getWebhook: ADMINISTRATION,
  updateWebhook: ADMINISTRATION,
  deleteWebhook: ADMINISTRATION,
  rotateWebhookSecret: ADMINISTRATION,
  listWebhookDeliveries: ADMINISTRATION,
  replayWebhookDelivery: ADMINISTRATION,
  testWebhook: ADMINISTRATION,
  createPurchase: { roles: ["admin", "seller", "customer"], scope: "orders:write", limit: "standard" },
  listMyPurchases: { roles: EVERYONE, scope: null, limit: "standard" },
  createOrder: ORDER_WRITES,
  listOrders: ORDER_READS,
  getOrder: ORDER_READS,
  updateOrderStatus: { roles: ADMINS, scope: "orders:write", limit: "standard" },
  cancelOrder: ORDER_WRITES,
  getQueueStats: ADMINISTRATION,
  purgeQueue: ADMINISTRATION,
  getWorkerStatus: ADMINISTRATION,
  getWorkerStats: ADMINISTRATION,
  listDeadLetters: ADMINISTRATION,
  retryDeadLetter: ADMINISTRATION,
  getHealth: OPEN,
  getLiveness: OPEN,
  getReadiness: OPEN,
  getReadinessAlias: OPEN,
  getMetrics: OPEN,
} as const satisfies Record<string, AccessRule | PublicRule>;

export type OperationId = keyof typeof ACCESS;

export function accessRule(operation: OperationId): AccessRule | PublicRule {
  return ACCESS[operation];
}

export function isAllowed(rule: AccessRule, principal: Principal): boolean {
  if (principal.kind === "operator") return true;
  if (principal.kind === "user") return rule.roles.includes(principal.role);
  return rule.scope !== null && (principal.scopes.includes(rule.scope) || principal.scopes.includes("admin"));
}

/** The topics of the notifications that a principal may see. */
export function visibleTopics(principal: Principal): readonly Topic[] {
  if (isAllowed(ORDER_NOTIFICATIONS, principal)) return TOPICS;
  return TOPICS.filter((topic) => !topic.startsWith("order."));
}
