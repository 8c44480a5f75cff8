import { z } from "@hono/zod-openapi";
import { json, jsonBody } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { IdentityService } from "./index.ts";
import {
  ApiKey,
  ApiKeyInput,
  CreatedApiKey,
  LoginInput,
  Me,
  RefreshInput,
  RegisterInput,
  Session,
} from "./schema.ts";

export function createIdentityRoutes(identity: IdentityService) {
  const router = createRouter();

  const register = defineRoute({
    operationId: "register",
    method: "post",
    path: "/auth/register",
    tags: ["Identity"],
    summary: "Make an account, and with tenantName a tenant of its own",
    request: jsonBody(RegisterInput),
    responses: { 201: json(Session, "The new account, signed in") },
    problems: [403, 409],
  });
  router.openapi(register, async (c) => c.json(await identity.register(c.req.valid("json")), 201));

  const login = defineRoute({
    operationId: "login",
    method: "post",
    path: "/auth/login",
    tags: ["Identity"],
    summary: "Sign in",
    request: jsonBody(LoginInput),
    responses: { 200: json(Session, "Signed in") },
    problems: [401],
  });
  router.openapi(login, async (c) => c.json(await identity.login(c.req.valid("json")), 200));

  const refresh = defineRoute({
    operationId: "refresh",
    method: "post",
    path: "/auth/refresh",
    tags: ["Identity"],
    summary: "Swap a refresh token for a new session",
    description:
      "A refresh token works once. Using one twice ends every session that came from the same sign-in.",
    request: jsonBody(RefreshInput),
    responses: { 200: json(Session, "Signed in again") },
    problems: [401],
  });
  router.openapi(refresh, async (c) => c.json(await identity.refresh(c.req.valid("json").refreshToken), 200));

  const logout = defineRoute({
    operationId: "logout",
    method: "post",
    path: "/auth/logout",
    tags: ["Identity"],
    summary: "End the session that a refresh token belongs to",
    request: jsonBody(RefreshInput),
    responses: { 204: { description: "Signed out" } },
  });
  router.openapi(logout, async (c) => {
    await identity.logout(c.req.valid("json").refreshToken);
    return c.body(null, 204);
  });

  const getMe = defineRoute({
    operationId: "getMe",
    method: "get",
    path: "/auth/me",
    tags: ["Identity"],
    summary: "Who am I, and where am I a member",
    responses: { 200: json(Me, "The account and its memberships") },
  });
  router.openapi(getMe, async (c) => c.json(await identity.getMe(requestContext(c)), 200));

  const createApiKey = defineRoute({
    operationId: "createApiKey",
    method: "post",
    path: "/api-keys",
    tags: ["Identity"],
    summary: "Make an API key",
    request: jsonBody(ApiKeyInput),
    responses: { 201: json(CreatedApiKey, "The key; `key` is shown this once") },
  });
  router.openapi(createApiKey, async (c) =>
    c.json(await identity.createApiKey(requestContext(c), c.req.valid("json")), 201),
  );

  const listApiKeys = defineRoute({
    operationId: "listApiKeys",
    method: "get",
    path: "/api-keys",
    tags: ["Identity"],
    summary: "List the API keys that are not revoked",
    responses: { 200: json(z.object({ items: z.array(ApiKey) }), "The keys, newest first") },
  });
  router.openapi(listApiKeys, async (c) =>
    c.json({ items: await identity.listApiKeys(requestContext(c)) }, 200),
  );

  const revokeApiKey = defineRoute({
    operationId: "revokeApiKey",
    method: "delete",
    path: "/api-keys/{id}",
    tags: ["Identity"],
    summary: "Revoke an API key",
    request: { params: z.object({ id: z.string() }) },
    responses: { 204: { description: "Refused everywhere within five seconds" } },
    problems: [404],
  });
  router.openapi(revokeApiKey, async (c) => {
    await identity.revokeApiKey(requestContext(c), c.req.valid("param").id);
    return c.body(null, 204);
  });

  return router;
}
