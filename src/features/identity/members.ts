import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid, newId } from "../../core/ids.ts";
import type { RequestContext, Role } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { recordAudit } from "../audit/index.ts";
import type { Idempotency } from "../idempotency/index.ts";
import type { InvitationTokens } from "./invitation-tokens.ts";
import * as repository from "./members-repository.ts";
import { findUserById } from "./repository.ts";

export interface MembersDeps {
  db: Database;
  idempotency: Idempotency;
  invitationTokens: InvitationTokens;
}

export type MembersService = ReturnType<typeof createMembersService>;

const INVITATION_DAYS = 7;

/**
 * Who belongs to a tenant. Joining takes an invitation token, for known and unknown e-mails alike: an e-mail address is
 * proven by nothing here, and the answer to an invitation must not tell whether it has an account.
 */
export function createMembersService({ db, idempotency, invitationTokens }: MembersDeps) {
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

    /** The answer carries the token, which the admin passes on. */
    async inviteMember(
      ctx: RequestContext,
      input: { email: string; role: Role; sellerId?: string },
      idempotencyKey: string | undefined,
    ) {
      const expiresAt = new Date(Date.now() + INVITATION_DAYS * 86_400_000);
      const row = { id: newId(), email: input.email, role: input.role, sellerId: input.sellerId ?? null };
      const request = { key: idempotencyKey, operation: "inviteMember", payload: input };
      const answer = await idempotency(ctx, request, async (tx) => {
        await repository.insertInvitation(tx, ctx.tenantId, { ...row, expiresAt });
        await recordAudit(tx, ctx, { action: "member.invited", target: row.id, after: row });
        return { status: 201, body: { ...row, expiresAt: expiresAt.toISOString() } };
      });
      // The token is signed anew for a replay, too: what is stored with an Idempotency-Key must hold no secret.
      const invitation = answer.body as typeof row & { expiresAt: string };
      const token = invitationTokens.sign({ tenantId: ctx.tenantId, id: invitation.id });
      return { invitation: { ...invitation, token }, replayed: answer.replayed };
    },

    /** Joins the tenant that invited the caller's e-mail. Throws `not_found` for a token that is not theirs. */
    async acceptInvitation({ principal, requestId }: RequestContext, token: string) {
      if (principal.kind !== "user") throw new AppError("forbidden", "An API key can't join a tenant.");
      const user = await findUserById(db.orm, principal.userId);
      const named = invitationTokens.verify(token);
      return db.transaction(async (tx) => {
        const taken =
          user && named && (await repository.takeInvitation(tx, named.tenantId, named.id, user.email));
        if (!taken) throw new AppError("not_found", "There is no such invitation for your e-mail address.");
        // An admin who takes an invitation as something less must not be the last one.
        const admins = await repository.lockAdmins(tx, taken.tenantId);
        if (taken.role !== "admin") requireOtherAdmin(admins, user.id);
        await repository.upsertMember(tx, taken.tenantId, user.id, taken.role, taken.sellerId);
        const ctx = { tenantId: taken.tenantId, principal, requestId, sellerId: taken.sellerId };
        await recordAudit(tx, ctx, {
          action: "member.joined",
          target: user.id,
          after: { role: taken.role, sellerId: taken.sellerId },
        });
        return taken;
      });
    },

    /** Throws `not_found`, and `conflict` when it would leave the tenant without an admin. */
    async updateMember(
      ctx: RequestContext,
      userId: string,
      change: { role?: Role; sellerId?: string | null },
    ) {
      await db.transaction(async (tx) => {
        const admins = await repository.lockAdmins(tx, ctx.tenantId);
        const before = isUuid(userId) ? await repository.lockMember(tx, ctx.tenantId, userId) : null;
        if (!before) throw noMember();
        const after = {
          role: change.role ?? before.role,
          sellerId: change.sellerId === undefined ? before.sellerId : change.sellerId,
        };
        if (after.role !== "admin") requireOtherAdmin(admins, userId);
        await repository.updateMembership(tx, ctx.tenantId, userId, after.role, after.sellerId);
        await recordAudit(tx, ctx, { action: "member.updated", target: userId, before, after });
      });
    },

    async removeMember(ctx: RequestContext, userId: string): Promise<void> {
      await db.transaction(async (tx) => {
        const admins = await repository.lockAdmins(tx, ctx.tenantId);
        const before = isUuid(userId) ? await repository.lockMember(tx, ctx.tenantId, userId) : null;
        if (!before) throw noMember();
        requireOtherAdmin(admins, userId);
        await repository.deleteMembership(tx, ctx.tenantId, userId);
        await recordAudit(tx, ctx, { action: "member.removed", target: userId, before });
      });
    },
  };
}

function noMember(): AppError {
  return new AppError("not_found", "There is no such member.");
}

function requireOtherAdmin(admins: readonly string[], userId: string): void {
  if (admins.length === 1 && admins[0] === userId) {
    throw new AppError("conflict", "This is the tenant's last admin; make somebody else an admin first.");
  }
}
