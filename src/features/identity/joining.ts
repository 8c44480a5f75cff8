import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import type { InvitationName } from "./invitation-tokens.ts";
import { revokeInvitationsFor, takeInvitation } from "./invitations-repository.ts";
import { lockAdmins, lockMember, lockTenant, requireOtherAdmin, upsertMember } from "./members-repository.ts";
import { deleteResetsOf } from "./passwords/repository.ts";

/**
 * Takes an invitation, the one way into an existing tenant. It ends all others for the e-mail: a
 * spare one would outlive the next change of role. Throws `not_found` unless the invitation is open
 * and for this e-mail, and `conflict` when the tenant would lose its last admin.
 */
export async function joinByInvitation(
  tx: Transaction,
  named: InvitationName | null,
  user: { id: string; email: string },
  requestId: string,
) {
  if (named) await lockTenant(tx, named.tenantId);
  const taken = named && (await takeInvitation(tx, named.tenantId, named.id, user.email));
  if (!taken) throw new AppError("not_found", "There is no such invitation for your e-mail address.");
  const { tenantId, role, sellerId } = taken;
  await revokeInvitationsFor(tx, tenantId, user.email);
  const admins = await lockAdmins(tx, tenantId);
  if (role !== "admin") requireOtherAdmin(admins, user.id);
  const before = await lockMember(tx, tenantId, user.id);
  if (before?.role === "admin" && role !== "admin") await deleteResetsOf(tx, tenantId);
  await upsertMember(tx, tenantId, user.id, role, sellerId);
  const principal = { kind: "user", userId: user.id, tenantId, role, sellerId } as const;
  const ctx: RequestContext = { tenantId, principal, requestId, sellerId };
  await recordAudit(tx, ctx, {
    action: "member.joined",
    target: user.id,
    ...(before ? { before } : {}),
    after: { role, sellerId },
  });
  return taken;
}
