import type { MiddlewareHandler } from "hono";
import { rateLimiter, type Store } from "hono-rate-limiter";
import { AppError } from "../../core/errors.ts";
import { type Principal, principalName } from "../../core/principal.ts";
import type { OperationPolicyName, RatePolicies, RatePolicy } from "../../core/rate-limits.ts";
import type { RateCounters, RateDecision } from "../../redis/rate-limit.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { addressBlock } from "../client-address.ts";
import type { HttpContext, HttpEnv, RateLimits } from "../router.ts";

export interface RateLimitDeps {
  policies: RatePolicies;
  counters: RateCounters;
  metrics: Metrics;
}

export type Decide = (key: string, policy: RatePolicy) => Promise<RateDecision>;

/** Counts in Redis, and in this process while Redis is away. */
export function createDecide({ counters, metrics }: Omit<RateLimitDeps, "policies">): Decide {
  return (key, policy) =>
    counters.shared(key, policy).catch(() => {
      metrics.redisFallbacks.inc({ operation: "rate_limit" });
      return counters.local(key, policy);
    });
}

type KeyOf = (c: HttpContext) => string | Promise<string>;

/**
 * All addresses together may try one e-mail this many times the limit `auth`. With the limit
 * itself, a single stranger could keep somebody from signing in.
 */
const EMAIL_CEILING = 10;

const PASS: MiddlewareHandler<HttpEnv> = (_c, next) => next();

/**
 * `auth` counts by address and, with a higher ceiling, by the e-mail in the body. All others count
 * by principal; `standard` and `import` also by the seller that is acted for. What a client names
 * adds a count and never removes one. Keys begin with a hash tag, so a key's script stays in one
 * slot of a Redis Cluster.
 */
export function createRateLimits({ policies, counters, metrics }: RateLimitDeps): RateLimits {
  const decide = createDecide({ counters, metrics });

  function limiter(name: OperationPolicyName, keyOf: KeyOf, times = 1): MiddlewareHandler<HttpEnv> {
    const configured = policies[name];
    if (configured === null) return PASS;
    const policy = { ...configured, limit: configured.limit * times };
    const limit = rateLimiter<HttpEnv>({
      ...policy,
      standardHeaders: false,
      keyGenerator: keyOf as never,
      store: storeOf((key) => decide(`${key}:${name}`, policy), policy),
      handler: (c) => {
        const retryAfterSeconds = secondsUntil(infoOf(c));
        throw new AppError(
          "rate_limited",
          `More than ${policy.limit} requests in ${policy.windowMs / 1000} s.`,
          {
            retryAfterSeconds: Math.max(1, retryAfterSeconds),
            headers: headersOf(name, policy, infoOf(c)),
          },
        );
      },
    });
    return (c, next) =>
      limit(c, () => {
        const info = infoOf(c);
        // Of several counts, the one that will refuse first is the one to know.
        if (info.remaining < (c.get("tightestRemaining") ?? Number.POSITIVE_INFINITY)) {
          c.set("tightestRemaining", info.remaining);
          for (const [header, value] of Object.entries(headersOf(name, policy, info)))
            c.header(header, value);
        }
        return next();
      });
  }

  const byAddress = limiter("auth", (c) => `{address:${addressBlock(c.get("clientAddress")())}}`);
  const byEmail = limiter("auth", emailKey, EMAIL_CEILING);
  const byPrincipal = (name: OperationPolicyName) => limiter(name, principalKey);
  const bySeller = (name: OperationPolicyName): MiddlewareHandler<HttpEnv> => {
    const [ofPrincipal, ofSeller] = [byPrincipal(name), limiter(name, sellerKey)];
    return async (c, next) => {
      if (c.get("sellerId") === null) return ofPrincipal(c, next);
      // A seller's own people all count for that seller, so a count of their own could never be
      // reached first.
      if (isSeller(c.get("principal"))) return ofSeller(c, next);
      await ofPrincipal(c, async () => void (await ofSeller(c, next)));
    };
  };
  return {
    auth: async (c, next) => byAddress(c, async () => void (await byEmail(c, next))),
    standard: bySeller("standard"),
    import: bySeller("import"),
    analytics: byPrincipal("analytics"),
    eventsRead: byPrincipal("eventsRead"),
    eventsWrite: byPrincipal("eventsWrite"),
  };
}

/**
 * The library's store over a sliding window that decides by itself: a refusal is one hit too many.
 */
function storeOf(decide: (key: string) => Promise<RateDecision>, { limit }: RatePolicy): Store<HttpEnv> {
  return {
    async increment(key) {
      const { admitted, remaining, resetMs } = await decide(key);
      return {
        totalHits: admitted ? limit - remaining : limit + 1,
        resetTime: new Date(Date.now() + resetMs),
      };
    },
    // Only asked for by options that are off here.
    decrement: () => {},
    resetKey: () => {},
  };
}

interface RateInfo {
  remaining: number;
  resetTime: Date;
}

function infoOf(c: { get: (name: never) => unknown }): RateInfo {
  return c.get("rateLimit" as never) as RateInfo;
}

function secondsUntil({ resetTime }: RateInfo): number {
  return Math.max(0, Math.ceil((resetTime.getTime() - Date.now()) / 1000));
}

/** Header fields of the IETF draft "RateLimit header fields for HTTP". */
function headersOf(
  name: OperationPolicyName,
  { limit, windowMs }: RatePolicy,
  info: RateInfo,
): Record<string, string> {
  return {
    "ratelimit-policy": `"${name}";q=${limit};w=${Math.ceil(windowMs / 1000)}`,
    ratelimit: `"${name}";r=${info.remaining};t=${secondsUntil(info)}`,
  };
}

function principalKey(c: HttpContext): string {
  const principal = c.get("principal");
  return `{${principal.tenantId}}:${principalName(principal)}`;
}

/** Requests for a seller take from that seller's limit, whichever person or key sends them. */
function sellerKey(c: HttpContext): string {
  return `{${c.get("principal").tenantId}}:seller:${c.get("sellerId")}`;
}

function isSeller(principal: Principal): boolean {
  return principal.kind === "user" && principal.role === "seller";
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * The e-mail as it will be looked up. A body without one is left to validation and counts by
 * address only.
 */
async function emailKey(c: HttpContext): Promise<string> {
  // As bytes, so that the next reader sees what was sent, invalid UTF-8 included.
  const bytes = await c.req.arrayBuffer();
  const body = readJson(Buffer.from(bytes).toString());
  const email = typeof body === "object" && body !== null && "email" in body ? body.email : null;
  if (typeof email === "string") return `{email:${email.trim().toLowerCase().slice(0, 254)}}`;
  return `{address:${addressBlock(c.get("clientAddress")())}}:unnamed`;
}
