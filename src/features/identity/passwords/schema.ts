import { z } from "@hono/zod-openapi";
import { Instant } from "../../../http/responses.ts";
import { Email, Password, Token } from "../schema.ts";

export const PasswordChange = z
  .strictObject({ currentPassword: z.string().min(1).max(128), newPassword: Password })
  .openapi("PasswordChange", {
    example: { currentPassword: "correct horse battery", newPassword: "a better battery staple" },
  });

export const PasswordResetRequest = z
  .strictObject({ email: Email })
  .openapi("PasswordResetRequest", { example: { email: "ada@example.com" } });

export const PasswordResetConfirmation = z
  .strictObject({ token: Token, password: Password })
  .openapi("PasswordResetConfirmation", {
    example: { token: "3q2-7wAAAAB_token_of_the_link", password: "a better battery staple" },
  });

export const PasswordResetLink = z
  .object({
    token: z.string(),
    url: z
      .string()
      .openapi({ description: "The page that takes the new password; a path without PUBLIC_URL" }),
    expiresAt: Instant,
  })
  .openapi("PasswordResetLink");
