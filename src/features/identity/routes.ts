import { z } from "@hono/zod-openapi";
import { addressBlock } from "../../http/client-address.ts";
import { json, jsonBody, PageQuery, pageOf } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type {
  ApiKeysService,
  IdentityService,
  InvitationsService,
  MembersService,
  TenantService,
} from "./index.ts";
import {
  AcceptInput,
  ApiKey,
  ApiKeyInput,
  CreatedApiKey,
  CreatedInvitation,
  Invitation,
  InvitationInput,
  LoginInput,
  Me,
  Member,
  MemberChange,
  RefreshInput,
  RegisterInput,
  RotateInput,
  Session,
  Tenant,
  TenantChange,
} from "./schema.ts";

const tags = ["Identity"];
const IdParam = z.object({ id: z.string() });
const UserParam = z.object({ userId: z.string() });

export interface IdentityServices {
  identity: IdentityService;
  apiKeys: ApiKeysService;
  invitations: InvitationsService;
  members: MembersService;
  tenant: TenantService;
}

export function createIdentityRoutes({ identity, apiKeys, invitations, members, tenant }: IdentityServices) {
  const router = createRouter();
  addSessionRoutes(router, identity);
  addApiKeyRoutes(router, apiKeys);
  addInvitationRoutes(router, invitations);
  addMemberRoutes(router, members);
  addTenantRoutes(router, tenant);
  return router;
}

type Router = ReturnType<typeof createRouter>;

function addSessionRoutes(router: Router, identity: IdentityService): void {
  const register = defineRoute({
    operationId: "register",
    secret: true,
    method: "post",
    path: "/auth/register",
    tags,
    summary: "Make an account, and with tenantName a tenant of its own",
    request: jsonBody(RegisterInput),
    responses: { 201: json(Session, "The new account, signed in") },
    problems: [403, 404, 409],
  });
  router.openapi(register, async (c) =>
    c.json(await identity.register(c.req.valid("json"), c.get("requestId")), 201),
  );

  const login = defineRoute({
    operationId: "login",
    secret: true,
    method: "post",
    path: "/auth/login",
    tags,
    summary: "Sign in, and with invitationToken to the tenant that invites",
    request: jsonBody(LoginInput),
    responses: { 200: json(Session, "Signed in") },
    problems: [401, 409],
  });
  router.openapi(login, async (c) =>
    c.json(
      await identity.login(c.req.valid("json"), {
        requestId: c.get("requestId"),
        address: addressBlock(c.get("clientAddress")()),
      }),
      200,
    ),
  );

  const refresh = defineRoute({
    operationId: "refresh",
    secret: true,
    method: "post",
    path: "/auth/refresh",
    tags,
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
    tags,
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
    tags,
    summary: "Who am I, and where am I a member",
    etag: true,
    responses: { 200: json(Me, "The account and its memberships") },
  });
  router.openapi(getMe, async (c) => c.json(await identity.getMe(requestContext(c)), 200));
}

function addApiKeyRoutes(router: Router, apiKeys: ApiKeysService): void {
  const createApiKey = defineRoute({
    operationId: "createApiKey",
    secret: true,
    method: "post",
    path: "/api-keys",
    tags,
    summary: "Make an API key",
    request: jsonBody(ApiKeyInput),
    responses: { 201: json(CreatedApiKey, "The key; `key` is shown this once") },
    problems: [409],
  });
  router.openapi(createApiKey, async (c) =>
    c.json(await apiKeys.createApiKey(requestContext(c), c.req.valid("json")), 201),
  );

  const listApiKeys = defineRoute({
    operationId: "listApiKeys",
    method: "get",
    path: "/api-keys",
    tags,
    summary: "List the API keys that work",
    request: { query: PageQuery },
    responses: {
      200: json(pageOf(ApiKey, "ApiKeyPage"), "A page, newest first"),
    },
  });
  router.openapi(listApiKeys, async (c) =>
    c.json(await apiKeys.listApiKeys(requestContext(c), c.req.valid("query")), 200),
  );

  const rotateApiKey = defineRoute({
    operationId: "rotateApiKey",
    secret: true,
    method: "post",
    path: "/api-keys/{id}/rotate",
    tags,
    summary: "Replace an API key; the old one goes on working for a while",
    request: { params: IdParam, ...jsonBody(RotateInput) },
    responses: { 201: json(CreatedApiKey, "The new key; `key` is shown this once") },
    problems: [404, 409],
  });
  router.openapi(rotateApiKey, async (c) => {
    const { overlapSeconds } = c.req.valid("json");
    return c.json(
      await apiKeys.rotateApiKey(requestContext(c), c.req.valid("param").id, overlapSeconds),
      201,
    );
  });

  const revokeApiKey = defineRoute({
    operationId: "revokeApiKey",
    method: "delete",
    path: "/api-keys/{id}",
    tags,
    summary: "Revoke an API key",
    request: { params: IdParam },
    responses: { 204: { description: "Refused everywhere within five seconds" } },
    problems: [404],
  });
  router.openapi(revokeApiKey, async (c) => {
    await apiKeys.revokeApiKey(requestContext(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
}

function addInvitationRoutes(router: Router, invitations: InvitationsService): void {
  const inviteMember = defineRoute({
    operationId: "inviteMember",
    secret: true,
    method: "post",
    path: "/members",
    tags,
    summary: "Invite somebody by e-mail and role",
    description:
      "Footfall sends no mail: pass the token on. The answer is the same whether the e-mail has an account or not. Earlier invitations of the e-mail end.",
    idempotent: true,
    request: jsonBody(InvitationInput),
    responses: { 201: json(CreatedInvitation, "The invitation; `token` is shown this once") },
  });
  router.openapi(inviteMember, async (c) => {
    const key = c.req.header("idempotency-key");
    const { invitation, replayed } = await invitations.inviteMember(
      requestContext(c),
      c.req.valid("json"),
      key,
    );
    if (replayed) c.header("idempotent-replayed", "true");
    return c.json(invitation, 201);
  });

  const listInvitations = defineRoute({
    operationId: "listInvitations",
    method: "get",
    path: "/members/invitations",
    tags,
    summary: "List the open invitations, newest first",
    request: { query: PageQuery },
    responses: {
      200: json(pageOf(Invitation, "InvitationPage"), "A page"),
    },
  });
  router.openapi(listInvitations, async (c) =>
    c.json(await invitations.listInvitations(requestContext(c), c.req.valid("query")), 200),
  );

  const revokeInvitation = defineRoute({
    operationId: "revokeInvitation",
    method: "delete",
    path: "/members/invitations/{id}",
    tags,
    summary: "Withdraw an invitation",
    request: { params: IdParam },
    responses: { 204: { description: "Nobody can take it any more" } },
    problems: [404],
  });
  router.openapi(revokeInvitation, async (c) => {
    await invitations.revokeInvitation(requestContext(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
}

function addMemberRoutes(router: Router, members: MembersService): void {
  const listMembers = defineRoute({
    operationId: "listMembers",
    method: "get",
    path: "/members",
    tags,
    summary: "List who belongs to the tenant",
    request: { query: PageQuery },
    responses: {
      200: json(pageOf(Member, "MemberPage"), "A page"),
    },
  });
  router.openapi(listMembers, async (c) =>
    c.json(await members.listMembers(requestContext(c), c.req.valid("query")), 200),
  );

  const acceptInvitation = defineRoute({
    operationId: "acceptInvitation",
    method: "post",
    path: "/members/accept",
    tags,
    summary: "Join the tenant that invited me",
    request: jsonBody(AcceptInput),
    responses: {
      200: json(Member.pick({ role: true, sellerId: true }).extend({ tenantId: z.uuid() }), "Joined"),
    },
    problems: [404, 409],
  });
  router.openapi(acceptInvitation, async (c) =>
    c.json(await members.acceptInvitation(requestContext(c), c.req.valid("json").token), 200),
  );

  const updateMember = defineRoute({
    operationId: "updateMember",
    method: "patch",
    path: "/members/{userId}",
    tags,
    summary: "Change a member's role or seller",
    request: { params: UserParam, ...jsonBody(MemberChange) },
    responses: { 204: { description: "Changed; holds for new requests within seconds" } },
    problems: [404, 409],
  });
  router.openapi(updateMember, async (c) => {
    await members.updateMember(requestContext(c), c.req.valid("param").userId, c.req.valid("json"));
    return c.body(null, 204);
  });

  const removeMember = defineRoute({
    operationId: "removeMember",
    method: "delete",
    path: "/members/{userId}",
    tags,
    summary: "Take somebody out of the tenant",
    request: { params: UserParam },
    responses: { 204: { description: "Removed, and signed out of this tenant" } },
    problems: [404, 409],
  });
  router.openapi(removeMember, async (c) => {
    await members.removeMember(requestContext(c), c.req.valid("param").userId);
    return c.body(null, 204);
  });
}

function addTenantRoutes(router: Router, tenant: TenantService): void {
  const getTenant = defineRoute({
    operationId: "getTenant",
    method: "get",
    path: "/tenants/current",
    tags,
    summary: "The settings of my tenant",
    etag: true,
    responses: { 200: json(Tenant, "The tenant") },
  });
  router.openapi(getTenant, async (c) => c.json(await tenant.getTenant(requestContext(c)), 200));

  const updateTenant = defineRoute({
    operationId: "updateTenant",
    method: "patch",
    path: "/tenants/current",
    tags,
    summary: "Change the settings of my tenant",
    request: jsonBody(TenantChange),
    responses: { 200: json(Tenant, "The tenant as it is now") },
    problems: [409],
  });
  router.openapi(updateTenant, async (c) =>
    c.json(await tenant.updateTenant(requestContext(c), c.req.valid("json")), 200),
  );
}
