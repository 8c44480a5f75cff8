import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import { namesItsSeller, type RequestContext, type Role } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import type { InvitationTokens } from "./invitation-tokens.ts";
import { revokeInvitationsBy, revokeInvitationsFor } from "./invitations-repository.ts";
import { joinByInvitation } from "./joining.ts";
import * as repository from "./members-repository.ts";
import { deleteResetsOf } from "./passwords/repository.ts";
import { findUserById } from "./repository.ts";
import { requireStanding } from "./standing.ts";

export interface MembersDeps {
  db: Database;
  invitationTokens: InvitationTokens;
}

export type MembersService = ReturnType<typeof createMembersService>;

/** Who belongs to a tenant. Joining takes an invitation. */
export function createMembersService({ db, invitationTokens }: MembersDeps) {
  return {
    async listMembers({ tenantId }: RequestContext, { limit, cursor }: { limit: number; cursor?: string }) {
      const [after = null] = cursor ? decodeCursor("members", cursor, 1) : [];
      if (after !== null && !isUuid(after)) throw new AppError("invalid_input", "The cursor is not valid.");
      const rows = await repository.selectMembers(db.read, tenantId, after, limit + 1);
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map((row) => ({ ...row, createdAt: row.createdAt.toISOString() })),
        nextCursor: last ? encodeCursor("members", [last.userId]) : null,
      };
    },

    /**
     * Joins the tenant that invited the caller's e-mail. Throws `not_found` for a token that is not
     * theirs.
     */
    async acceptInvitation({ principal, requestId }: RequestContext, token: string) {
      if (principal.kind !== "user") throw new AppError("forbidden", "An API key can't join a tenant.");
      const user = await findUserById(db.orm, principal.userId);
      if (!user) throw new AppError("unauthenticated", "The account is gone.");
      const named = invitationTokens.verify(token);
      return db.transaction((tx) => joinByInvitation(tx, named, user, requestId));
    },

    /** Throws `not_found`, and `conflict` when it would leave the tenant without an admin. */
    async updateMember(
      ctx: RequestContext,
      userId: string,
      change: { role?: Role; sellerId?: string | null },
    ) {
      await db.transaction(async (tx) => {
        await requireStanding(tx, ctx);
        const admins = await repository.lockAdmins(tx, ctx.tenantId);
        const before = isUuid(userId) ? await repository.lockMember(tx, ctx.tenantId, userId) : null;
        if (!before) throw noMember();
        const after = {
          role: change.role ?? before.role,
          sellerId: change.sellerId === undefined ? before.sellerId : change.sellerId,
        };
        if (!namesItsSeller(after.role, after.sellerId)) throw wrongSeller();
        if (after.role !== "admin") repository.requireOtherAdmin(admins, userId);
        await repository.updateMembership(tx, ctx.tenantId, userId, after.role, after.sellerId);
        if (before.role === "admin" && after.role !== "admin") await deleteResetsOf(tx, ctx.tenantId);
        const voided = await voidInvitations(tx, ctx.tenantId, userId, after.role);
        await recordAudit(tx, ctx, {
          action: "member.updated",
          target: userId,
          before,
          after: { ...after, ...voided },
        });
      });
    },

    async removeMember(ctx: RequestContext, userId: string): Promise<void> {
      await db.transaction(async (tx) => {
        await requireStanding(tx, ctx);
        const admins = await repository.lockAdmins(tx, ctx.tenantId);
        const before = isUuid(userId) ? await repository.lockMember(tx, ctx.tenantId, userId) : null;
        if (!before) throw noMember();
        repository.requireOtherAdmin(admins, userId);
        await repository.deleteMembership(tx, ctx.tenantId, userId);
        if (before.role === "admin") await deleteResetsOf(tx, ctx.tenantId);
        const voided = await voidInvitations(tx, ctx.tenantId, userId, null);
        await recordAudit(tx, ctx, {
          action: "member.removed",
          target: userId,
          before,
          ...(voided ? { after: voided } : {}),
        });
      });
    },
  };
}

/**
 * Ends the open invitations that would undo a removal or a change of role: those for the user, and,
 * unless the user is still an admin, those that the user made. Undefined when there were none.
 */
async function voidInvitations(tx: Transaction, tenantId: string, userId: string, role: Role | null) {
  const email = await repository.selectEmail(tx, userId);
  const ids = email === null ? [] : await revokeInvitationsFor(tx, tenantId, email);
  if (role !== "admin") ids.push(...(await revokeInvitationsBy(tx, tenantId, `user:${userId}`)));
  return ids.length > 0 ? { revokedInvitations: ids } : undefined;
}

function wrongSeller(): AppError {
  const message = "A member needs a sellerId in the role seller, and in no other.";
  return new AppError("invalid_input", message, {
    errors: [{ path: "sellerId", code: "custom", message }],
  });
}

function noMember(): AppError {
  return new AppError("not_found", "There is no such member.");
}
