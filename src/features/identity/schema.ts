import { z } from "@hono/zod-openapi";
import { isDay, isTimeZone, TIME_ZONE_NAMES, TIME_ZONE_RULE } from "../../core/days.ts";
import { namesItsSeller, SCOPES } from "../../core/principal.ts";
import { isStorable } from "../../core/validation.ts";
import { Instant, withDefault } from "../../http/responses.ts";

const MAX_PASSWORD = 128;
const MAX_NAME = 200;

/**
 * Plain text that Postgres can store: no NUL, no lone surrogates. Blanks around it are removed, and
 * something must be left.
 */
const PlainText = (max: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .refine(isStorable, "holds a character that can't be stored")
    .openapi({ pattern: "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$" });

/**
 * zod's own pattern with the lengths of RFC 5321 and RFC 1035, so that the document tells all
 * requirements.
 */
const EMAIL =
  /^(?=.{1,64}@)(?!\.)(?!.*\.\.)[A-Za-z0-9_'+\-.]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$/;
export const Email = z
  .email({ pattern: EMAIL })
  .max(254)
  .toLowerCase()
  .openapi({ pattern: EMAIL.source, example: "ada@example.com" });
export const Password = z.string().min(8).max(MAX_PASSWORD);

export const Token = z.string().min(1).max(200);

export const RegisterInput = z
  .strictObject({
    email: Email,
    password: Password,
    name: PlainText(MAX_NAME).optional(),
    tenantName: PlainText(MAX_NAME)
      .optional()
      .openapi({ description: "Makes a tenant of this name and its admin" }),
    invitationToken: Token.optional().openapi({ description: "Joins the tenant that invited this e-mail" }),
  })
  .openapi("RegisterInput", {
    // One or the other.
    not: { required: ["tenantName", "invitationToken"], properties: { tenantName: {}, invitationToken: {} } },
    example: {
      email: "ada@example.com",
      password: "correct horse battery",
      name: "Ada",
      tenantName: "Ada's tea shop",
    },
  });

export const LoginInput = z
  .strictObject({
    email: Email,
    password: z.string().max(MAX_PASSWORD),
    tenantId: z.uuid().toLowerCase().optional(),
    invitationToken: Token.optional().openapi({
      description: "Joins the tenant that invited this e-mail, and signs in to it",
    }),
  })
  .openapi("LoginInput", { example: { email: "ada@example.com", password: "correct horse battery" } });

export const RefreshInput = z
  .strictObject({ refreshToken: Token })
  .openapi("RefreshInput", { example: { refreshToken: "ffr_4bq0m7d3h1w9" } });

const RoleName = z.enum(["admin", "seller", "analyst", "customer"]).openapi("Role");
const ScopeName = z.enum(SCOPES).openapi("Scope");
const KeyKind = z.enum(["secret", "publishable"]).openapi("ApiKeyKind");

export const User = z
  .object({
    id: z.uuid(),
    email: z.string(),
    name: z.string().nullable(),
    role: RoleName,
    tenantId: z.uuid(),
    createdAt: Instant,
  })
  .openapi("User");

export const Session = z
  .object({
    token: z.string(),
    refreshToken: z.string(),
    expiresIn: z.number().int().openapi({ description: "Seconds until the token expires" }),
    user: User,
  })
  .openapi("Session");

export const Me = z
  .object({
    user: User,
    memberships: z.array(
      z.object({
        tenantId: z.uuid(),
        tenantName: z.string(),
        role: RoleName,
        sellerId: z.string().nullable(),
      }),
    ),
  })
  .openapi("Me");

export const ApiKeyInput = z
  .strictObject({
    name: PlainText(MAX_NAME),
    kind: withDefault(KeyKind, "secret"),
    scopes: z.array(ScopeName).min(1).max(SCOPES.length).optional(),
    expiresAt: z.iso.datetime({ offset: true }).optional(),
  })
  .openapi("ApiKeyInput", {
    example: { name: "Shop backend", kind: "secret", scopes: ["events:write", "analytics:read"] },
  });

export const ApiKey = z
  .object({
    id: z.uuid(),
    name: z.string(),
    kind: KeyKind,
    prefix: z.string(),
    scopes: z.array(ScopeName),
    expiresAt: Instant.nullable(),
    createdAt: Instant,
    lastUsedAt: Instant.nullable(),
  })
  .openapi("ApiKey");

export const CreatedApiKey = ApiKey.extend({
  key: z.string().openapi({ description: "The key itself; shown this once" }),
}).openapi("CreatedApiKey");

const MAX_OVERLAP_SECONDS = 30 * 86_400;

export const RotateInput = z
  .strictObject({
    overlapSeconds: z
      .number()
      .int()
      .min(0)
      .max(MAX_OVERLAP_SECONDS)
      .default(86_400)
      .openapi({ description: "How long the old key goes on working" }),
  })
  .openapi("RotateInput", { example: { overlapSeconds: 86_400 } });

/** X-Seller-Id and memberships name sellers by ids of the shop's choice. */
const SellerId = PlainText(100);

const SELLER_RULE = "is needed with the role seller, and refused with any other";

export const Member = z
  .object({
    userId: z.uuid(),
    email: z.string(),
    name: z.string().nullable(),
    role: RoleName,
    sellerId: z.string().nullable(),
    createdAt: Instant,
  })
  .openapi("Member");

export const InvitationInput = z
  .strictObject({
    email: Email,
    role: RoleName,
    sellerId: SellerId.optional().openapi({ description: SELLER_RULE }),
  })
  .refine(({ role, sellerId }) => namesItsSeller(role, sellerId), { path: ["sellerId"], error: SELLER_RULE })
  .openapi("InvitationInput", {
    example: { email: "grace@example.com", role: "seller", sellerId: "seller-1" },
  });

export const Invitation = z
  .object({
    id: z.uuid(),
    email: z.string(),
    role: RoleName,
    sellerId: z.string().nullable(),
    invitedBy: z.string().nullable().openapi({ example: "user:0190b0a2-7c3e-7d11-8a55-2f6f0a3f9b10" }),
    expiresAt: Instant,
  })
  .openapi("Invitation");

export const CreatedInvitation = Invitation.extend({
  token: z.string().openapi({
    description: "For the invited person: at registration, at sign-in, or at /members/accept",
  }),
}).openapi("CreatedInvitation");

export const AcceptInput = z
  .strictObject({ token: Token })
  .openapi("AcceptInput", { example: { token: "the token of the invitation" } });

export const MemberChange = z
  .strictObject({
    role: RoleName.optional(),
    sellerId: SellerId.nullable()
      .optional()
      .openapi({
        description: `${SELLER_RULE}: the membership as it will be is checked, so null when somebody stops being a seller`,
      }),
  })
  .refine((change) => Object.keys(change).length > 0, "must name something to change")
  .openapi("MemberChange", { minProperties: 1, example: { role: "seller", sellerId: "seller-1" } });

/** Below ten million, as exact as core/exchange-rates.ts computes. */
const RATE = /^\d{1,7}(\.\d{1,10})?$/;

const TRUSTED_SALES =
  "Whether customers and publishable keys may send purchase, refund and adjustment. Anybody can register as a customer or read a publishable key, so false, the default, keeps strangers away from revenue";

/**
 * Three currencies by the day for most of a year. A setting that is sent whole should not be
 * larger.
 */
const MAX_RATES = 1_000;

const EXCHANGE_RATES =
  "What other currencies are worth in the tenant's, each from a day on until the next. A sale in one of them is converted by the rate of its day, once, when it arrives; later changes don't touch it. Sent as the whole list";

const ExchangeRate = z
  .strictObject({
    currency: z
      .string()
      .regex(/^[A-Z]{3}$/, "must be an ISO 4217 code of three capital letters, such as USD")
      .openapi({ example: "USD" }),
    from: z
      .string()
      .refine(isDay, "must be a day as YYYY-MM-DD")
      .openapi({ format: "date", example: "2026-01-01", description: "First day, on the tenant's clock" }),
    rate: z
      .string()
      .regex(RATE, 'must be a decimal as text, with at most 10 decimals, such as "0.92"')
      .refine((rate) => /[1-9]/.test(rate), "must be above 0")
      .openapi({ example: "0.92", description: "Units of the tenant's currency for one of this" }),
  })
  .openapi("ExchangeRate");

function areDistinct(rates: readonly { currency: string; from: string }[]): boolean {
  return new Set(rates.map(({ currency, from }) => `${currency} ${from}`)).size === rates.length;
}

export const Tenant = z
  .object({
    id: z.uuid(),
    slug: z.string(),
    name: z.string(),
    timeZone: z.string(),
    currency: z.string(),
    lowStockThreshold: z.number().int(),
    trustedSales: z.boolean().openapi({ description: TRUSTED_SALES }),
    exchangeRates: z.array(ExchangeRate).openapi({ description: EXCHANGE_RATES }),
    eventRetentionDays: z.number().int().nullable(),
  })
  .openapi("Tenant");

export const TenantChange = z
  .strictObject({
    name: PlainText(MAX_NAME).optional(),
    timeZone: z
      .string()
      .max(64)
      .refine(isTimeZone, TIME_ZONE_NAMES)
      .openapi({ description: TIME_ZONE_RULE, example: "Europe/Berlin" })
      .optional(),
    currency: z
      .string()
      .regex(/^[A-Z]{3}$/, "must be an ISO 4217 code of three capital letters, such as EUR")
      .optional(),
    lowStockThreshold: z.number().int().min(0).max(1_000_000).optional(),
    trustedSales: z
      .boolean("must be true or false")
      .optional()
      .openapi({ description: TRUSTED_SALES, example: false }),
    exchangeRates: z
      .array(ExchangeRate)
      .max(MAX_RATES, `takes at most ${MAX_RATES} rates`)
      .refine(areDistinct, "must have one rate a currency and day")
      .optional()
      .openapi({ description: EXCHANGE_RATES }),
    eventRetentionDays: z.number().int().min(1).max(36_500).nullable().optional(),
  })
  .refine((change) => Object.keys(change).length > 0, "must name something to change")
  .openapi("TenantChange", {
    minProperties: 1,
    example: { name: "Ada's tea shop", timeZone: "Europe/Berlin", lowStockThreshold: 5 },
  });
