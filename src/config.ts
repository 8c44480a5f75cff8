import { z } from "zod";
import {
  type PolicyName,
  parseRatePolicy,
  RATE_LIMIT_DEFAULTS,
  type RatePolicies,
} from "./core/rate-limits.ts";
import { fieldErrorsOf } from "./core/validation.ts";

/** The only file that reads the environment. Everything else receives the frozen Config. */

const WELL_KNOWN_SECRETS = ["secret", "changeme", "change-me", "password", "development", "footfall"];
const DEVELOPMENT_SECRET = "development-only-secret-not-for-production-use";
const MIN_SECRET_LENGTH = 32;

const integer = (min: number, max: number) => z.coerce.number().int().min(min).max(max);
const list = z
  .string()
  .default("")
  .transform((text) =>
    text
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== ""),
  );
const addressRange = z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()], {
  error: "must be addresses or CIDR ranges, e.g. 10.0.0.0/8",
});
const ratePolicy = (name: PolicyName) =>
  z
    .string()
    .default(RATE_LIMIT_DEFAULTS[name])
    .refine((text) => parseRatePolicy(text) !== undefined, "must be like 100/1s, 300/1m or off")
    .transform((text) => parseRatePolicy(text) ?? null);
const flag = z.enum(["true", "false"]).transform((value) => value === "true");

const Environment = z.object({
  /** Not set, it is development as long as nobody else can reach it. */
  NODE_ENV: z.enum(["development", "test", "production"]).optional(),
  HOST: z.string().default("0.0.0.0"),
  PORT: integer(0, 65_535).default(3000),
  DATABASE_URL: z.url({
    protocol: /^postgres(ql)?$/,
    error: "must be a postgres:// URL, such as postgres://user:password@localhost:5432/footfall",
  }),
  REDIS_URL: z.url({
    protocol: /^rediss?$/,
    error: "must be a redis:// URL, such as redis://localhost:6379",
  }),
  /** Behind a PgBouncer older than 1.21 in transaction mode, prepared statements must be off. */
  DATABASE_PREPARE: flag.default(true),
  JWT_SECRET: z.string().optional(),
  /** A former secret, whose tokens stay valid until they expire. */
  JWT_SECRET_PREVIOUS: z.string().optional(),
  ADMIN_EMAIL: z.email().optional(),
  ADMIN_PASSWORD: z.string().min(8).max(128).optional(),
  SIGNUPS: z.enum(["open", "closed"]).default("open"),
  CUSTOMER_SIGNUPS: z.enum(["open", "closed"]).optional(),
  PUBLIC_URL: z
    .url({ protocol: /^https?$/, error: "must be an https:// URL, such as https://analytics.example.com" })
    .transform((url) => url.replace(/\/+$/, ""))
    .optional(),
  SMTP_URL: z
    .url({
      protocol: /^smtps?$/,
      error: "must be an smtp:// or smtps:// URL, such as smtps://user:password@mail.example.com",
    })
    .optional(),
  SMTP_FROM: z.string().optional(),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  /** Bytes of a request body after inflation; the larger cap is for bulk. */
  MAX_BODY_BYTES: integer(1024, 64 * 1024 * 1024).default(256 * 1024),
  MAX_BULK_BYTES: integer(1024, 64 * 1024 * 1024).default(4 * 1024 * 1024),
  /** Bytes of one CSV file of products. */
  IMPORT_MAX_BYTES: integer(1024, 16 * 1024 ** 3).default(1024 ** 3),
  /** Origins of browsers that may use the API; event writes take any. */
  CORS_ORIGINS: list,
  /** Addresses and CIDR ranges whose X-Forwarded-For is believed. */
  TRUSTED_PROXIES: list.pipe(z.array(addressRange)),
  RATE_LIMIT_AUTH: ratePolicy("auth"),
  RATE_LIMIT_STANDARD: ratePolicy("standard"),
  RATE_LIMIT_IMPORT: ratePolicy("import"),
  RATE_LIMIT_ANALYTICS: ratePolicy("analytics"),
  RATE_LIMIT_EVENTS_READ: ratePolicy("eventsRead"),
  RATE_LIMIT_EVENTS_WRITE: ratePolicy("eventsWrite"),
  /** Less than the 75 s after which Bun hangs up on a silent connection. */
  REQUEST_TIMEOUT_MS: integer(1_000, 70_000).default(30_000),
  /**
   * How old an outdated answer may be that is served as `stale` while a new one is computed; 0:
   * never.
   */
  CACHE_STALE_MS: integer(0, 60_000).default(2_000),
  /** Bytes of one cached answer, and of all that Redis holds of one tenant's. */
  CACHE_MAX_ENTRY_BYTES: integer(0, 64 * 1024 * 1024).default(1024 * 1024),
  CACHE_MAX_TENANT_BYTES: integer(0, 1024 ** 4).default(32 * 1024 * 1024),
  /** Where the load ladder begins; each doubling is a step up. */
  LOAD_LOOP_DELAY_MS: integer(1, 10_000).default(50),
  LOAD_IN_FLIGHT: integer(1, 1_000_000).default(500),
  LOAD_READS: integer(1, 10_000).default(6),
  /** Days for which stored notifications are kept. */
  NOTIFICATION_RETENTION_DAYS: integer(1, 3_650).default(90),
  /**
   * How old an event may be that is sent: three years and a month. `footfall import` takes older
   * ones.
   */
  EVENT_MAX_AGE_DAYS: integer(1, 36_500).default(1_125),
  AUDIT_RETENTION_DAYS: integer(1, 36_500).default(730),
  ORDER_HISTORY_RETENTION_DAYS: integer(1, 36_500).default(3_650),
  /** Event streams that one process holds open, of all tenants and of one. */
  SSE_MAX_CONNECTIONS: integer(0, 1_000_000).default(10_000),
  SSE_MAX_CONNECTIONS_PER_TENANT: integer(0, 1_000_000).default(5_000),
  /** The same for exports, and how long a client may leave a page of one untaken. */
  EXPORT_MAX_CONNECTIONS: integer(0, 100_000).default(50),
  EXPORT_MAX_CONNECTIONS_PER_TENANT: integer(0, 100_000).default(5),
  EXPORT_STALL_MS: integer(100, 3_600_000).default(60_000),
  WEBHOOK_ALLOW_PRIVATE: flag.default(false),
  RATE_LIMIT_BAD_CREDENTIALS: ratePolicy("badCredentials"),
  SHUTDOWN_GRACE_MS: integer(0, 120_000).default(10_000),
});

export interface Config {
  environment: "development" | "test" | "production";
  host: string;
  port: number;
  databaseUrl: string;
  databasePrepare: boolean;
  redisUrl: string;
  jwtSecret: string;
  jwtSecretPrevious: string | null;
  admin: { email: string; password: string } | null;
  signups: "open" | "closed";
  customerSignups: "open" | "closed";
  /** Where people reach this API, without a slash at its end. */
  publicUrl: string | null;
  /** Null: no mail is sent. */
  smtp: { url: string; from: string } | null;
  logLevel: string;
  maxBodyBytes: number;
  maxBulkBytes: number;
  importMaxBytes: number;
  corsOrigins: string[];
  trustedProxies: string[];
  rateLimits: RatePolicies;
  requestTimeoutMs: number;
  cacheStaleMs: number;
  cacheBounds: { entryBytes: number; tenantBytes: number };
  load: { loopDelayMs: number; inFlight: number; reads: number };
  notificationRetentionDays: number;
  eventMaxAgeDays: number;
  auditRetentionDays: number;
  orderHistoryRetentionDays: number;
  sseMaxConnections: number;
  sseMaxConnectionsPerTenant: number;
  exportMaxConnections: number;
  exportMaxConnectionsPerTenant: number;
  exportStallMs: number;
  /** Webhooks may go to private addresses and over http. */
  webhookAllowPrivate: boolean;
  shutdownGraceMs: number;
}

/** A variable that is missing or wrong. The message is one sentence that names it. */
export class ConfigError extends Error {}

/**
 * Checks `env` once and returns the whole configuration. Throws ConfigError naming the first bad
 * variable. A command that opens no port (`listens` false) reads no tokens and needs no secret.
 */
export function parseConfig(
  env: Record<string, string | undefined> = process.env,
  { listens = true }: { listens?: boolean } = {},
): Config {
  // An empty variable is how shells and compose files say "not set".
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const parsed = Environment.safeParse(given);
  if (!parsed.success) {
    const [{ path, message } = { path: "", message: "" }] = fieldErrorsOf(parsed.error);
    const [name = ""] = path.split(".");
    const reason = given[name] === undefined ? "is not set" : message;
    throw new ConfigError(`${name} ${reason} (see .env.example for what it means).`);
  }
  const values = parsed.data;
  const environment = values.NODE_ENV ?? "development";
  const trust = {
    environment,
    mayDefault: values.NODE_ENV !== undefined || isLoopback(values.HOST) || !listens,
  };
  return Object.freeze({
    environment,
    host: values.HOST,
    port: values.PORT,
    databaseUrl: values.DATABASE_URL,
    databasePrepare: values.DATABASE_PREPARE,
    redisUrl: values.REDIS_URL,
    jwtSecret: checkSecret("JWT_SECRET", trust, values.JWT_SECRET),
    // Its tokens are believed as well, so it must be as hard to guess.
    jwtSecretPrevious:
      values.JWT_SECRET_PREVIOUS === undefined
        ? null
        : checkSecret("JWT_SECRET_PREVIOUS", trust, values.JWT_SECRET_PREVIOUS),
    admin:
      values.ADMIN_EMAIL && values.ADMIN_PASSWORD
        ? {
            email: values.ADMIN_EMAIL,
            password: checkAdminPassword(environment, values.ADMIN_PASSWORD),
          }
        : null,
    signups: values.SIGNUPS,
    customerSignups: values.CUSTOMER_SIGNUPS ?? values.SIGNUPS,
    publicUrl: values.PUBLIC_URL ?? null,
    smtp: checkSmtp(values),
    logLevel: values.LOG_LEVEL,
    maxBodyBytes: values.MAX_BODY_BYTES,
    maxBulkBytes: values.MAX_BULK_BYTES,
    importMaxBytes: values.IMPORT_MAX_BYTES,
    corsOrigins: values.CORS_ORIGINS,
    trustedProxies: values.TRUSTED_PROXIES,
    rateLimits: {
      auth: values.RATE_LIMIT_AUTH,
      standard: values.RATE_LIMIT_STANDARD,
      import: values.RATE_LIMIT_IMPORT,
      analytics: values.RATE_LIMIT_ANALYTICS,
      eventsRead: values.RATE_LIMIT_EVENTS_READ,
      eventsWrite: values.RATE_LIMIT_EVENTS_WRITE,
      badCredentials: values.RATE_LIMIT_BAD_CREDENTIALS,
    },
    requestTimeoutMs: values.REQUEST_TIMEOUT_MS,
    cacheStaleMs: values.CACHE_STALE_MS,
    cacheBounds: { entryBytes: values.CACHE_MAX_ENTRY_BYTES, tenantBytes: values.CACHE_MAX_TENANT_BYTES },
    load: {
      loopDelayMs: values.LOAD_LOOP_DELAY_MS,
      inFlight: values.LOAD_IN_FLIGHT,
      reads: values.LOAD_READS,
    },
    notificationRetentionDays: values.NOTIFICATION_RETENTION_DAYS,
    eventMaxAgeDays: values.EVENT_MAX_AGE_DAYS,
    auditRetentionDays: values.AUDIT_RETENTION_DAYS,
    orderHistoryRetentionDays: values.ORDER_HISTORY_RETENTION_DAYS,
    sseMaxConnections: values.SSE_MAX_CONNECTIONS,
    sseMaxConnectionsPerTenant: values.SSE_MAX_CONNECTIONS_PER_TENANT,
    exportMaxConnections: values.EXPORT_MAX_CONNECTIONS,
    exportMaxConnectionsPerTenant: values.EXPORT_MAX_CONNECTIONS_PER_TENANT,
    exportStallMs: values.EXPORT_STALL_MS,
    webhookAllowPrivate: checkPrivateWebhooks(environment, values.WEBHOOK_ALLOW_PRIVATE),
    shutdownGraceMs: values.SHUTDOWN_GRACE_MS,
  });
}

/** A mail without a sender or without a link in it is of no use. */
function checkSmtp(values: z.infer<typeof Environment>): Config["smtp"] {
  if (values.SMTP_URL === undefined) return null;
  for (const name of ["SMTP_FROM", "PUBLIC_URL"] as const)
    if (values[name] === undefined)
      throw new ConfigError(`${name} is not set; SMTP_URL needs it (see .env.example for what it means).`);
  return { url: values.SMTP_URL, from: values.SMTP_FROM ?? "" };
}

function checkPrivateWebhooks(environment: Config["environment"], allowed: boolean): boolean {
  if (environment === "production" && allowed)
    throw new ConfigError(
      "WEBHOOK_ALLOW_PRIVATE opens this machine's network to every tenant; production refuses it.",
    );
  return allowed;
}

function checkAdminPassword(environment: Config["environment"], password: string): string {
  const letters = password.toLowerCase().replaceAll(/[^a-z-]/g, "");
  if (environment === "production" && [...WELL_KNOWN_SECRETS, "admin", ""].includes(letters))
    throw new ConfigError("ADMIN_PASSWORD is a well-known or guessable value; choose another one.");
  return password;
}

/** Addresses that only this machine reaches. */
function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * `mayDefault`: the environment is not production, or nobody from elsewhere can reach the program.
 */
interface SecretTrust {
  environment: Config["environment"];
  mayDefault: boolean;
}

function checkSecret(
  name: string,
  { environment, mayDefault }: SecretTrust,
  secret: string | undefined,
): string {
  if (environment !== "production") {
    const chosen = secret ?? DEVELOPMENT_SECRET;
    if (chosen !== DEVELOPMENT_SECRET || mayDefault) return chosen;
    throw new ConfigError(
      `${name} is not set; make one with \`openssl rand -base64 48\`, or set HOST=127.0.0.1 to try Footfall on this machine alone.`,
    );
  }
  if (!secret)
    throw new ConfigError(`${name} is not set; production needs one, e.g. \`openssl rand -base64 48\`.`);
  if (secret.length < MIN_SECRET_LENGTH) {
    throw new ConfigError(
      `${name} is shorter than ${MIN_SECRET_LENGTH} characters; make one with \`openssl rand -base64 48\`.`,
    );
  }
  const lower = secret.toLowerCase();
  const guessable =
    secret === DEVELOPMENT_SECRET ||
    new Set(secret).size < 8 ||
    WELL_KNOWN_SECRETS.some((word) => lower.replaceAll(word, "").length < MIN_SECRET_LENGTH / 2);
  if (guessable)
    throw new ConfigError(
      `${name} is a well-known or guessable value; make one with \`openssl rand -base64 48\`.`,
    );
  return secret;
}
