import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid, newId } from "../../core/ids.ts";
import { principalName, type RequestContext, type Role } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { recordAudit } from "../audit/index.ts";
import type { Idempotency } from "../idempotency/index.ts";
import type { InvitationTokens } from "./invitation-tokens.ts";
import type { InvitationRow } from "./invitations-repository.ts";
import * as repository from "./invitations-repository.ts";
import { requireStanding } from "./standing.ts";

export interface InvitationsDeps {
  db: Database;
  idempotency: Idempotency;
  invitationTokens: InvitationTokens;
}

export type InvitationsService = ReturnType<typeof createInvitationsService>;

const INVITATION_DAYS = 7;

/**
 * Offers to join a tenant, for known and unknown e-mails alike: nothing here proves an e-mail
 * address, and the answer must not tell whether it has an account.
 */
export function createInvitationsService({ db, idempotency, invitationTokens }: InvitationsDeps) {
  return {
    /**
     * The answer carries the token, which the admin passes on. It ends earlier invitations for the
     * e-mail.
     */
    async inviteMember(
      ctx: RequestContext,
      input: { email: string; role: Role; sellerId?: string },
      idempotencyKey: string | undefined,
    ) {
      const row = {
        id: newId(),
        email: input.email,
        role: input.role,
        sellerId: input.sellerId ?? null,
        invitedBy: principalName(ctx.principal),
        expiresAt: new Date(Date.now() + INVITATION_DAYS * 86_400_000),
      };
      const request = { key: idempotencyKey, operation: "inviteMember", payload: input };
      const answer = await idempotency(ctx, request, async (tx) => {
        await requireStanding(tx, ctx);
        const superseded = await repository.revokeInvitationsFor(tx, ctx.tenantId, row.email);
        await repository.insertInvitation(tx, ctx.tenantId, row);
        const after = { ...present(row), ...(superseded.length > 0 ? { superseded } : {}) };
        await recordAudit(tx, ctx, { action: "member.invited", target: row.id, after });
        return { status: 201, body: present(row) };
      });
      // The token is signed anew for a replay, too: an answer stored for an Idempotency-Key must
      // hold no secret.
      const invitation = answer.body as ReturnType<typeof present>;
      const token = invitationTokens.sign({ tenantId: ctx.tenantId, id: invitation.id });
      return { invitation: { ...invitation, token }, replayed: answer.replayed };
    },

    /** The open ones, newest first, without their tokens. */
    async listInvitations(
      { tenantId }: RequestContext,
      { limit, cursor }: { limit: number; cursor?: string },
    ) {
      const [before = null] = cursor ? decodeCursor("invitations", cursor, 1) : [];
      if (before !== null && !isUuid(before)) throw new AppError("invalid_input", "The cursor is not valid.");
      const rows = await repository.selectInvitations(db.read, tenantId, before, limit + 1);
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map(present),
        nextCursor: last ? encodeCursor("invitations", [last.id]) : null,
      };
    },

    /** Throws `not_found` for one that is not open (any more). */
    async revokeInvitation(ctx: RequestContext, id: string): Promise<void> {
      await db.transaction(async (tx) => {
        await requireStanding(tx, ctx);
        const before = isUuid(id) ? await repository.revokeInvitation(tx, ctx.tenantId, id) : null;
        if (!before) throw new AppError("not_found", "There is no such open invitation.");
        await recordAudit(tx, ctx, { action: "invitation.revoked", target: id, before: present(before) });
      });
    },
  };
}

function present({ id, email, role, sellerId, invitedBy, expiresAt }: InvitationRow) {
  return { id, email, role, sellerId, invitedBy, expiresAt: expiresAt.toISOString() };
}
