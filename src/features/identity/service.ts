import { AppError } from "../../core/errors.ts";
import { newId, sha256 } from "../../core/ids.ts";
import type { RequestContext, Role } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import { ensureAdmin } from "./ensure-admin.ts";
import type { InvitationName, InvitationTokens } from "./invitation-tokens.ts";
import { joinByInvitation } from "./joining.ts";
import { hashPassword, verifyPassword } from "./passwords/hashing.ts";
import type { SignInDelays } from "./passwords/sign-in-delays.ts";
import * as repository from "./repository.ts";
import type { TimeZones } from "./time-zones.ts";
import { ACCESS_TOKEN_SECONDS, type AccessTokens, makeRefreshToken } from "./tokens.ts";

export const DEFAULT_TENANT = "default";

export interface IdentityDeps {
  db: Database;
  tokens: AccessTokens;
  invitationTokens: InvitationTokens;
  delays: SignInDelays;
  signups: "open" | "closed";
  /** Of people who bring neither a tenantName nor an invitation. */
  customerSignups: "open" | "closed";
  timeZones: Pick<TimeZones, "require">;
}

export interface RegisterInput {
  email: string;
  password: string;
  name?: string;
  tenantName?: string;
  invitationToken?: string;
}

export interface LoginInput {
  email: string;
  password: string;
  tenantId?: string;
  invitationToken?: string;
}

type Account = Omit<repository.UserRow, "passwordHash">;

export type IdentityService = ReturnType<typeof createIdentityService>;

/** Accounts, sessions and API keys. */
export function createIdentityService(deps: IdentityDeps) {
  const { db, tokens, invitationTokens, delays, timeZones } = deps;
  const { orm } = db;

  /** A sign-in: the first token of a new family. */
  async function openSession(user: Account, tenantId: string, role: Role) {
    const refresh = makeRefreshToken();
    const { tokenHash, expiresAt } = refresh;
    await repository.insertRefreshToken(orm, {
      tokenHash,
      expiresAt,
      familyId: newId(),
      userId: user.id,
      tenantId,
      sessionVersion: user.sessionVersion,
    });
    return presentSession(user, tenantId, role, refresh.token);
  }

  async function presentSession(user: Account, tenantId: string, role: Role, refreshToken: string) {
    const { id: userId, sessionVersion } = user;
    const token = await tokens.sign({ userId, tenantId, role, sessionVersion });
    return { token, refreshToken, expiresIn: ACCESS_TOKEN_SECONDS, user: presentUser(user, tenantId, role) };
  }

  /**
   * The membership to sign in with: the one asked for, else the oldest. Null when there is none
   * such.
   */
  async function chooseMembership(userId: string, tenantId: string | undefined) {
    const memberships = await repository.listMemberships(orm, userId);
    return (tenantId ? memberships.find((one) => one.tenantId === tenantId) : memberships[0]) ?? null;
  }

  /** Null for an invitation that is no good for this user. */
  async function joinWith(token: string, user: repository.UserRow, requestId: string) {
    const named = invitationTokens.verify(token);
    try {
      return await db.transaction((tx) => joinByInvitation(tx, named, user, requestId));
    } catch (error) {
      if (error instanceof AppError && error.code === "not_found") return null;
      throw error;
    }
  }

  return {
    /**
     * `tenantName` makes a tenant, `invitationToken` joins the inviting one, otherwise it is the
     * default one. Throws `forbidden` while signups are closed, `conflict` for a taken e-mail,
     * `not_found` for an invalid invitation.
     */
    async register(input: RegisterInput, requestId: string) {
      const { email, password, name = null, tenantName, invitationToken } = input;
      if (tenantName && invitationToken)
        throw new AppError("invalid_input", "Give tenantName or invitationToken, not both.");
      if (tenantName && deps.signups === "closed")
        throw new AppError("forbidden", "New tenants can't be made here: sign-ups are closed.");
      if (!tenantName && !invitationToken && deps.customerSignups === "closed")
        throw new AppError("forbidden", "An account takes an invitation here: sign-ups are closed.");
      const user = { id: newId(), email, name, passwordHash: await hashPassword(password) };
      try {
        if (tenantName) {
          const tenant = { id: newId(), slug: slugOf(tenantName), name: tenantName };
          const createdAt = await repository.insertUserWithTenant(db, user, tenant);
          return await openSession({ ...user, createdAt, sessionVersion: 0 }, tenant.id, "admin");
        }
        if (invitationToken) {
          const named = invitationTokens.verify(invitationToken);
          const { tenantId, role, createdAt } = await joinAsNewUser(db, user, named, requestId);
          return await openSession({ ...user, createdAt, sessionVersion: 0 }, tenantId, role);
        }
        const tenant = await repository.findTenant(orm, DEFAULT_TENANT);
        if (!tenant) throw new Error("the default tenant is missing");
        const createdAt = await repository.insertUser(db, user, tenant.id, "customer");
        return await openSession({ ...user, createdAt, sessionVersion: 0 }, tenant.id, "customer");
      } catch (error) {
        if (classifyFailure(error) !== "conflict") throw error;
        throw new AppError("conflict", "This e-mail address has an account already.");
      }
    },

    /**
     * `invitationToken` joins the inviting tenant: the only way back for a person without any
     * membership. Throws `unauthenticated` in the same words and time for an unknown user, a wrong
     * password, a foreign tenant and an invalid invitation, and `rate_limited` after too many of
     * these.
     */
    async login(input: LoginInput, { requestId, address }: { requestId: string; address: string }) {
      if (input.tenantId && input.invitationToken)
        throw new AppError("invalid_input", "Give tenantId or invitationToken, not both.");
      const attempt = { email: input.email, address };
      await delays.takeTurn(attempt);
      const user = await repository.findUserByEmail(orm, input.email);
      const matches = await verifyPassword(user?.passwordHash ?? null, input.password);
      if (!user || !matches) throw wrongLogin();
      await delays.forget(attempt);
      const membership =
        input.invitationToken === undefined
          ? await chooseMembership(user.id, input.tenantId)
          : await joinWith(input.invitationToken, user, requestId);
      if (!membership) throw wrongLogin();
      return openSession(user, membership.tenantId, membership.role);
    },

    /**
     * Swaps a refresh token for a new session. A token used twice ends its whole family (RFC 9700,
     * section 4.14).
     */
    async refresh(refreshToken: string) {
      const next = makeRefreshToken();
      const used = await repository.rotateRefreshToken(db, sha256(refreshToken), next);
      const user = used && (await repository.findUserById(orm, used.userId));
      const membership = used && (await chooseMembership(used.userId, used.tenantId));
      if (!used || !user || !membership) {
        throw new AppError("unauthenticated", "The refresh token is not valid any more; sign in again.");
      }
      return presentSession(user, membership.tenantId, membership.role, next.token);
    },

    async logout(refreshToken: string): Promise<void> {
      await repository.revokeTokenFamily(orm, sha256(refreshToken));
    },

    async getMe({ principal, tenantId }: RequestContext) {
      if (principal.kind !== "user") throw new AppError("forbidden", "An API key is not a user.");
      const user = await repository.findUserById(orm, principal.userId);
      if (!user) throw new AppError("unauthenticated", "The account is gone.");
      const memberships = await repository.listMemberships(orm, user.id);
      return { user: presentUser(user, tenantId, principal.role), memberships };
    },

    ensureAdmin: (input: Parameters<typeof ensureAdmin>[1]) => ensureAdmin(db, input),

    /**
     * The id of the tenant with this slug, made when it is missing; an existing one stays as it is.
     * Throws `invalid_input` for a time zone that can't be used.
     */
    async ensureTenant(slug: string, name: string, timeZone?: string): Promise<string> {
      if (timeZone !== undefined) await timeZones.require(timeZone);
      await repository.insertTenant(orm, { id: newId(), slug, name, timeZone });
      const tenant = await repository.findTenant(orm, slug);
      if (!tenant) throw new Error(`tenant ${slug} could not be made`);
      return tenant.id;
    },

    /** Null when no tenant has this id or slug. */
    async findTenantId(idOrSlug: string): Promise<string | null> {
      return (await repository.findTenant(orm, idOrSlug))?.id ?? null;
    },
  };
}

function wrongLogin(): AppError {
  return new AppError("unauthenticated", "E-mail or password is wrong.");
}

/** Account and membership by an invitation, in one transaction. */
async function joinAsNewUser(
  db: Database,
  user: repository.NewUser,
  invitation: InvitationName | null,
  requestId: string,
) {
  return db.transaction(async (tx) => {
    const createdAt = await repository.insertAccount(tx, user);
    return { ...(await joinByInvitation(tx, invitation, user, requestId)), createdAt };
  });
}

function presentUser(user: Omit<Account, "sessionVersion">, tenantId: string, role: Role) {
  const { id, email, name } = user;
  return { id, email, name, role, tenantId, createdAt: user.createdAt.toISOString() };
}

/** Names need not be unique, slugs must: a random tail keeps two "My shop" apart. */
function slugOf(name: string): string {
  const words = name
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
  return `${words.slice(0, 40) || "shop"}-${newId().slice(-6)}`;
}
