import type { Role } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";

export interface InvitationRow {
  id: string;
  email: string;
  role: Role;
  sellerId: string | null;
  /** Kind and id of the principal; null in old rows. */
  invitedBy: string | null;
  expiresAt: Date;
}

const columns = (sql: Sql | Transaction) =>
  sql`id, email, role, seller_id as "sellerId", invited_by as "invitedBy", expires_at as "expiresAt"`;
const isOpen = (sql: Sql | Transaction) =>
  sql`accepted_at is null and revoked_at is null and expires_at > now()`;

export async function insertInvitation(tx: Transaction, tenantId: string, row: InvitationRow): Promise<void> {
  await tx`
    insert into invitations (tenant_id, id, email, role, seller_id, invited_by, expires_at)
    values (${tenantId}, ${row.id}, ${row.email}, ${row.role}, ${row.sellerId}, ${row.invitedBy}, ${row.expiresAt.toISOString()})`;
}

/**
 * The open ones, newest first; ids are time-ordered. `before` is the last id of the page before.
 */
export async function selectInvitations(
  sql: Sql,
  tenantId: string,
  before: string | null,
  limit: number,
): Promise<InvitationRow[]> {
  return sql<InvitationRow[]>`
    select ${columns(sql)} from invitations
    where tenant_id = ${tenantId} and ${isOpen(sql)} ${before === null ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`;
}

/** Marks an open invitation for this e-mail as taken and returns it; null when there is none. */
export async function takeInvitation(tx: Transaction, tenantId: string, id: string, email: string) {
  const [row] = await tx<{ tenantId: string; role: Role; sellerId: string | null }[]>`
    update invitations set accepted_at = now()
    where tenant_id = ${tenantId} and id = ${id} and email = ${email} and ${isOpen(tx)}
    returning tenant_id as "tenantId", role, seller_id as "sellerId"`;
  return row ?? null;
}

/** Withdraws an open invitation and returns it; null when there is none. */
export async function revokeInvitation(
  tx: Transaction,
  tenantId: string,
  id: string,
): Promise<InvitationRow | null> {
  const [row] = await tx<InvitationRow[]>`
    update invitations set revoked_at = now() where tenant_id = ${tenantId} and id = ${id} and ${isOpen(tx)}
    returning ${columns(tx)}`;
  return row ?? null;
}

/** Withdraws every open invitation for an e-mail and returns their ids. */
export async function revokeInvitationsFor(
  tx: Transaction,
  tenantId: string,
  email: string,
): Promise<string[]> {
  const rows = await tx<{ id: string }[]>`
    update invitations set revoked_at = now()
    where tenant_id = ${tenantId} and email = ${email} and ${isOpen(tx)} returning id`;
  return rows.map(({ id }) => id);
}

/** Withdraws every open invitation that a principal made and returns their ids. */
export async function revokeInvitationsBy(
  tx: Transaction,
  tenantId: string,
  invitedBy: string,
): Promise<string[]> {
  const rows = await tx<{ id: string }[]>`
    update invitations set revoked_at = now()
    where tenant_id = ${tenantId} and invited_by = ${invitedBy} and ${isOpen(tx)} returning id`;
  return rows.map(({ id }) => id);
}
