import { isUtf8 } from "node:buffer";
import { createRoute, OpenAPIHono, type RouteConfig } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler } from "hono";
import { type AccessRule, accessRule, isAllowed, type OperationId, type PublicRule } from "../core/access.ts";
import { AppError } from "../core/errors.ts";
import { actingSeller, grantedPriority, type Principal, type RequestContext } from "../core/principal.ts";
import { isPriority, PRIORITIES, type Priority } from "../core/priority.ts";
import type { OperationPolicyName } from "../core/rate-limits.ts";
import { fieldErrorsOf, invalidInput } from "../core/validation.ts";
import { tagAnswers } from "./etag.ts";
import {
  type HeaderField,
  headerReferences,
  NOT_MODIFIED_REFERENCE,
  type PARAMETERS,
  type ProblemStatus,
  parameterReference,
  problemReference,
} from "./shared-parts.ts";

/** What middleware leaves for the handlers. */
export interface HttpEnv {
  Variables: {
    requestId: string;
    /**
     * Checks the request's credential. Null when there is none; throws `unauthenticated` for a bad
     * one.
     */
    authenticate: () => Promise<Principal | null> | Principal | null;
    principal: Principal;
    sellerId: string | null;
    /** The client's address, from the socket or the last trusted proxy. */
    clientAddress: () => string;
    rateLimits: RateLimits;
    loadShedding: LoadShedding;
    priority: Priority;
    /** What is left of the tightest limit that the request was counted against. */
    tightestRemaining: number | undefined;
  };
}

/** Counts every request of an operation against its policy and refuses the ones above it. */
export type RateLimits = Record<OperationPolicyName, MiddlewareHandler<HttpEnv>>;

/** Lets requests in, or refuses them with `unavailable` by their priority and the load. */
export interface LoadShedding {
  /** The result is called when the request has ended. No tenant: nobody has signed in. */
  admit(tenantId: string | null, priority: Priority): () => void;
  /** The same for event ingestion, which is refused last and not counted. */
  admitIngest(): void;
}

export type HttpContext = Context<HttpEnv>;

/** The one router factory: every route answers invalid input in the same shape. */
export function createRouter(options: { getPath?: (request: Request) => string } = {}): OpenAPIHono<HttpEnv> {
  return new OpenAPIHono<HttpEnv>({
    ...options,
    defaultHook: (result) => {
      if (result.success) return;
      const where = result.target === "json" ? "body" : result.target === "param" ? "path" : result.target;
      throw invalidInput(where, fieldErrorsOf(result.error as never));
    },
  });
}

type Operation = Omit<RouteConfig, "operationId" | "security" | "middleware" | "parameters"> & {
  operationId: OperationId;
  /**
   * Statuses of problems beside those that follow from the rule, the body and the options below.
   */
  problems?: readonly ProblemStatus[];
  /** Fields of the 2xx answers beside those that follow. */
  headers?: readonly HeaderField[];
  /** The answer holds a credential: nothing on the way may keep it. */
  secret?: boolean;
  /** Tags its answers, and answers 304 to If-None-Match. */
  etag?: boolean;
  /** Takes If-Match, and answers 412. */
  ifMatch?: boolean;
  /**
   * Takes an Idempotency-Key: 409 while the first request is in flight, 422 with another payload.
   */
  idempotent?: boolean;
  middleware?: MiddlewareHandler<HttpEnv>[];
};

/**
 * A route of the contract: zod-openapi's createRoute plus what follows from its rule in
 * core/access.ts and its options. These make `security`, parameters, headers and problems of the
 * document, and the checks, which run before any input is read.
 */
export function defineRoute<const R extends Operation>(operation: R) {
  const rule = accessRule(operation.operationId);
  const {
    problems,
    headers,
    secret = false,
    etag,
    ifMatch,
    idempotent,
    middleware = [],
    ...config
  } = operation as Operation;
  const isPublic = "public" in rule;
  return createRoute({
    ...(config as R),
    parameters: parametersOf(operation, rule),
    security: isPublic ? [] : securityOf(rule),
    middleware: [
      cacheability(isPublic, secret),
      guard(rule),
      ...(etag ? [tagAnswers()] : []),
      ...(operation.request?.body ? [requireJsonText] : []),
      ...middleware,
    ],
    responses: responsesOf(operation, rule) as R["responses"],
  });
}

/**
 * The header fields that the operation reads, as references. Those of its own schemas are listed
 * beside them.
 */
function parametersOf({ etag, ifMatch, idempotent }: Operation, rule: AccessRule | PublicRule) {
  const isPublic = "public" in rule;
  const isShed = rule.limit !== null && rule.limit !== "eventsWrite" && !("neverShed" in rule);
  const names: (keyof typeof PARAMETERS | false | undefined)[] = [
    "RequestId",
    !isPublic && "TenantId",
    !isPublic && "SellerId",
    isShed && "Priority",
    etag && "IfNoneMatch",
    ifMatch && "IfMatch",
    idempotent && "IdempotencyKey",
  ];
  return names.filter((name) => typeof name === "string").map(parameterReference);
}

function responsesOf(
  { responses, request, problems = [], headers = [], etag, ifMatch, idempotent }: Operation,
  rule: AccessRule | PublicRule,
): RouteConfig["responses"] {
  const statuses = new Set<ProblemStatus>([400, 500, 503, ...problems]);
  if (!("public" in rule)) statuses.add(401).add(403);
  if (rule.limit !== null) statuses.add(429);
  if (request?.body) statuses.add(413).add(415);
  if (ifMatch) statuses.add(412);
  if (idempotent) statuses.add(409).add(422);
  const fields: HeaderField[] = ["X-Request-Id", ...headers];
  if (rule.limit !== null) fields.push("RateLimit", "RateLimit-Policy");
  if (etag) fields.push("ETag");
  if (idempotent) fields.push("Idempotent-Replayed");
  const own = Object.entries(responses).map(([status, response]) => [
    status,
    "$ref" in response ? response : { ...response, headers: headerReferences(fields) },
  ]);
  return {
    ...Object.fromEntries([...statuses].sort().map((status) => [status, problemReference(status)])),
    ...(etag ? { 304: NOT_MODIFIED_REFERENCE } : {}),
    ...Object.fromEntries(own),
  };
}

function securityOf(rule: AccessRule): Record<string, string[]>[] {
  const byPerson = { bearer: rule.roles.map((role) => `role:${role}`) };
  return rule.scope === null ? [byPerson] : [byPerson, { apiKey: [rule.scope] }];
}

const CREDENTIAL_HEADERS = "Authorization, X-Api-Key, X-Tenant-Id, X-Seller-Id";

/**
 * What caches may do with an answer. An answer to a credential may be kept by a browser's own
 * cache, which must ask again each time (with its ETag). It is never shown to another credential.
 */
function cacheability(isPublic: boolean, secret: boolean): MiddlewareHandler<HttpEnv> {
  return (c, next) => {
    if (secret) c.header("cache-control", "no-store");
    else if (!isPublic) c.header("cache-control", "private, no-cache");
    if (!isPublic && c.req.method === "GET") c.header("vary", CREDENTIAL_HEADERS, { append: true });
    return next();
  };
}

/**
 * Credential, permission, rate limit, in this order: what is not allowed uses up nobody's limit.
 */
function guard(rule: AccessRule | PublicRule): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    if (!("public" in rule)) {
      const principal = await c.get("authenticate")();
      if (principal === null)
        throw new AppError(
          "unauthenticated",
          "Send a token or an API key as Authorization: Bearer, or a key as X-Api-Key.",
        );
      if (!isAllowed(rule, principal)) throw new AppError("forbidden", whatIsMissing(rule, principal));
      c.set("principal", principal);
      c.set("sellerId", readSeller(c, principal));
    }
    // What shows whether the process lives must answer under load, too.
    if (rule.limit === null) return next();
    const limited = () => c.get("rateLimits")[rule.limit as OperationPolicyName](c, next);
    if ("neverShed" in rule && rule.neverShed) return limited();
    const shedding = c.get("loadShedding");
    if (rule.limit === "eventsWrite") {
      shedding.admitIngest();
      return limited();
    }
    const principal = "public" in rule ? null : c.get("principal");
    const priority = readPriority(c, principal);
    c.set("priority", priority);
    const end = shedding.admit(principal?.tenantId ?? null, priority);
    try {
      return await limited();
    } finally {
      end();
    }
  };
}

/** The priority that X-Priority asks for, as far as the caller may, else that of its role. */
function readPriority(c: HttpContext, principal: Principal | null): Priority {
  const asked = c.req.header("x-priority");
  if (asked !== undefined && !isPriority(asked))
    throw new AppError("invalid_input", `X-Priority is one of ${PRIORITIES.join(", ")}.`);
  return grantedPriority(principal, asked);
}

const MAX_SELLER_ID = 100;

function readSeller(c: HttpContext, principal: Principal): string | null {
  const named = c.req.header("x-seller-id");
  if (named !== undefined && (named.length === 0 || named.length > MAX_SELLER_ID)) {
    throw new AppError("invalid_input", `X-Seller-Id has 1 to ${MAX_SELLER_ID} characters.`);
  }
  const sellerId = actingSeller(principal, named);
  if (sellerId === undefined && named === undefined)
    throw new AppError("forbidden", "This seller's membership names no seller; an admin can name one.");
  if (sellerId === undefined) throw new AppError("forbidden", "This credential may not act for that seller.");
  return sellerId;
}

/**
 * A body with a Content-Encoding would be read as JSON, which it is not; only bulk inflates.
 * Without a Content-Type zod-openapi takes a body for {}, and text decoding replaces bytes that are
 * no UTF-8: both would be accepted. The text read here is cached for the validator.
 */
const requireJsonText: MiddlewareHandler<HttpEnv> = async (c, next) => {
  if (c.req.header("content-type") === undefined)
    throw new AppError("unsupported_media_type", "Send the body as application/json.");
  const encoding = c.req.header("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") {
    throw new AppError("unsupported_media_type", "Send the body without a Content-Encoding.", {
      headers: { "accept-encoding": "identity" },
    });
  }
  if (!isUtf8(await c.req.arrayBuffer()))
    throw new AppError("malformed_body", "The body is not valid UTF-8.");
  return next();
};

function whatIsMissing({ roles, scope }: AccessRule, principal: Principal): string {
  if (principal.kind === "user") return `This takes one of the roles: ${roles.join(", ")}.`;
  return scope === null ? "This is for people, not for API keys." : `This takes the scope ${scope}.`;
}

/** The context that feature verbs take, from an authorized request. */
export function requestContext(c: HttpContext): RequestContext {
  const principal = c.get("principal");
  return {
    tenantId: principal.tenantId,
    principal,
    requestId: c.get("requestId"),
    sellerId: c.get("sellerId"),
    priority: c.get("priority"),
  };
}

/**
 * A documented route whose handler reads the body itself (its own media types, inflation, checks
 * item by item), so zod-openapi must not. Query and path schemas of such a route only document it.
 */
export function routeWithOwnBody(
  router: OpenAPIHono<HttpEnv>,
  route: ReturnType<typeof defineRoute>,
  handler: (c: HttpContext) => Promise<Response>,
): void {
  // Without the middleware, as OpenAPIHono does it: functions are no part of a document.
  const { middleware, ...documented } = route as RouteConfig & { middleware: MiddlewareHandler<HttpEnv>[] };
  router.openAPIRegistry.registerPath(documented);
  const withoutReading = middleware.filter((one) => one !== requireJsonText);
  router.on(route.method, [route.getRoutingPath()], ...withoutReading, handler);
}
