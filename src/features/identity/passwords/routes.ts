import { z } from "@hono/zod-openapi";
import { AppError } from "../../../core/errors.ts";
import { addressBlock } from "../../../http/client-address.ts";
import { json, jsonBody } from "../../../http/responses.ts";
import { createRouter, defineRoute, type HttpContext, requestContext } from "../../../http/router.ts";
import { type PasswordsService, RESET_PAGE_PATH, RESET_STYLE, resetDone, resetForm } from "../index.ts";
import {
  PasswordChange,
  PasswordResetConfirmation,
  PasswordResetLink,
  PasswordResetRequest,
} from "./schema.ts";

const tags = ["Identity"];
const UserParam = z.object({ userId: z.string() });
/**
 * The page is a document of ours: it may send its own form and have its own style, and nothing
 * else.
 */
const PAGE_HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
};

export function createPasswordRoutes(passwords: PasswordsService) {
  const router = createRouter();
  const addressOf = (c: HttpContext) => addressBlock(c.get("clientAddress")());

  const changePassword = defineRoute({
    operationId: "changePassword",
    method: "post",
    path: "/auth/password",
    tags,
    summary: "Change my password",
    description: "Ends all sessions of the account, this one included. Sign in again with the new password.",
    request: jsonBody(PasswordChange),
    responses: { 204: { description: "Changed; tokens of before are refused within seconds" } },
  });
  router.openapi(changePassword, async (c) => {
    await passwords.changePassword(requestContext(c), c.req.valid("json"), addressOf(c));
    return c.body(null, 204);
  });

  const requestReset = defineRoute({
    operationId: "requestPasswordReset",
    method: "post",
    path: "/auth/password-reset",
    tags,
    summary: "Have a link mailed that sets a new password",
    description:
      "The answer is the same whether the e-mail address has an account or not. Without a mail server nothing is sent: an admin makes a link then.",
    request: jsonBody(PasswordResetRequest),
    responses: { 202: { description: "If there is such an account, a mail is on its way" } },
  });
  router.openapi(requestReset, (c) => {
    passwords.requestReset(c.req.valid("json").email);
    return c.body(null, 202);
  });

  const confirmReset = defineRoute({
    operationId: "confirmPasswordReset",
    method: "post",
    path: "/auth/password-reset/confirm",
    tags,
    summary: "Set a new password with the token of a link",
    description: "Works once. Ends all sessions of the account.",
    request: jsonBody(PasswordResetConfirmation),
    responses: { 204: { description: "Set; sign in with it" } },
    problems: [404],
  });
  router.openapi(confirmReset, async (c) => {
    const address = addressOf(c);
    await passwords.confirmReset(c.req.valid("json"), { requestId: c.get("requestId"), address });
    return c.body(null, 204);
  });

  const createLink = defineRoute({
    operationId: "createPasswordResetLink",
    secret: true,
    method: "post",
    path: "/members/{userId}/password-reset",
    tags,
    summary: "Make a link with which a member sets a new password",
    description:
      "Pass it on; it works once, within a day. Refused for a member of other tenants, too. Recorded in the audit log.",
    request: { params: UserParam },
    responses: { 201: json(PasswordResetLink, "The link; it is shown this once") },
    problems: [404],
  });
  router.openapi(createLink, async (c) =>
    c.json(await passwords.createResetLink(requestContext(c), c.req.valid("param").userId), 201),
  );

  router.get(RESET_PAGE_PATH, (c) => c.body(resetForm(c.req.query("token") ?? "", null), 200, PAGE_HEADERS));
  router.get(`${RESET_PAGE_PATH}/style.css`, (c) => c.body(RESET_STYLE, 200, { "content-type": "text/css" }));
  router.post(
    RESET_PAGE_PATH,
    (c, next) => c.get("rateLimits").auth(c, next),
    async (c) => {
      const form = new URLSearchParams(await c.req.text());
      const given = { token: form.get("token") ?? "", password: form.get("password") ?? "" };
      const problem = await setPassword(c, given);
      if (problem === null) return c.body(resetDone(), 200, PAGE_HEADERS);
      // A page for people, who read the problem in it: showing the form again is no error of the
      // API.
      return c.body(resetForm(given.token, problem), 200, PAGE_HEADERS);
    },
  );

  /** What is wrong, in a sentence; null when the password is set. */
  async function setPassword(c: HttpContext, given: { token: string; password: string }) {
    const checked = PasswordResetConfirmation.safeParse(given);
    if (!checked.success) return "The password must have 8 to 128 characters.";
    try {
      await passwords.confirmReset(checked.data, { requestId: c.get("requestId"), address: addressOf(c) });
      return null;
    } catch (error) {
      if (error instanceof AppError && error.code === "not_found") return error.message;
      throw error;
    }
  }

  return router;
}
