import { z } from "@hono/zod-openapi";
import { SCOPES } from "../../core/principal.ts";
import { isStorable } from "../../core/validation.ts";
import { Instant } from "../../http/responses.ts";

const MAX_PASSWORD = 128;
const MAX_NAME = 200;

/** Plain text that Postgres can store: no NUL, no lone surrogates. */
const PlainText = (max: number) =>
  z.string().trim().min(1).max(max).refine(isStorable, "holds a character that can't be stored");

const Email = z.email().max(254).toLowerCase().openapi({ example: "ada@example.com" });
const Password = z.string().min(8).max(MAX_PASSWORD);

export const RegisterInput = z
  .strictObject({
    email: Email,
    password: Password,
    name: PlainText(MAX_NAME).optional(),
    tenantName: PlainText(MAX_NAME)
      .optional()
      .openapi({ description: "Makes a tenant of this name and its admin" }),
  })
  .openapi("RegisterInput");

export const LoginInput = z
  .strictObject({ email: Email, password: z.string().max(MAX_PASSWORD), tenantId: z.uuid().optional() })
  .openapi("LoginInput");

export const RefreshInput = z
  .strictObject({ refreshToken: z.string().min(1).max(200) })
  .openapi("RefreshInput");

const RoleName = z.enum(["admin", "seller", "analyst", "customer"]);

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
    kind: z.enum(["secret", "publishable"]).default("secret"),
    scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length).optional(),
    expiresAt: z.iso.datetime({ offset: true }).optional(),
  })
  .openapi("ApiKeyInput");

export const ApiKey = z
  .object({
    id: z.uuid(),
    name: z.string(),
    kind: z.enum(["secret", "publishable"]),
    prefix: z.string(),
    scopes: z.array(z.enum(SCOPES)),
    expiresAt: Instant.nullable(),
    createdAt: Instant,
    lastUsedAt: Instant.nullable(),
  })
  .openapi("ApiKey");

export const CreatedApiKey = ApiKey.extend({
  key: z.string().openapi({ description: "The key itself; shown this once" }),
}).openapi("CreatedApiKey");
