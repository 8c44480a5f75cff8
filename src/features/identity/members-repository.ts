import type { Role } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";

export interface MemberRow {
  userId: string;
  email: string;
  name: string | null;
  role: Role;
  sellerId: string | null;
  createdAt: Date;
}

/** By user id, which is time-ordered. `after` is the last id of the page before. */
export async function selectMembers(
  sql: Sql,
  tenantId: string,
  after: string | null,
  limit: number,
): Promise<MemberRow[]> {
  return sql<MemberRow[]>`
    select m.user_id as "userId", u.email, u.name, m.role, m.seller_id as "sellerId", m.created_at as "createdAt"
    from memberships m join users u on u.id = m.user_id
    where m.tenant_id = ${tenantId} ${after === null ? sql`` : sql`and m.user_id > ${after}`}
    order by m.user_id limit ${limit}`;
}

/** Holds the row until the transaction ends. */
export async function lockMember(tx: Transaction, tenantId: string, userId: string) {
  const [row] = await tx<{ role: Role; sellerId: string | null }[]>`
    select role, seller_id as "sellerId" from memberships
    where tenant_id = ${tenantId} and user_id = ${userId} for update`;
  return row ?? null;
}

/** Locks the tenant's admins, so that two of them can't demote each other at once. Returns their user ids. */
export async function lockAdmins(tx: Transaction, tenantId: string): Promise<string[]> {
  const rows = await tx<{ userId: string }[]>`
    select user_id as "userId" from memberships
    where tenant_id = ${tenantId} and role = 'admin' order by user_id for update`;
  return rows.map((row) => row.userId);
}

export async function updateMembership(
  tx: Transaction,
  tenantId: string,
  userId: string,
  role: Role,
  sellerId: string | null,
) {
  await tx`update memberships set role = ${role}, seller_id = ${sellerId} where tenant_id = ${tenantId} and user_id = ${userId}`;
}

export async function deleteMembership(tx: Transaction, tenantId: string, userId: string): Promise<void> {
  await tx`delete from memberships where tenant_id = ${tenantId} and user_id = ${userId}`;
  await tx`delete from refresh_tokens where tenant_id = ${tenantId} and user_id = ${userId}`;
}

export interface InvitationRow {
  id: string;
  email: string;
  role: Role;
  sellerId: string | null;
  expiresAt: Date;
}

export async function insertInvitation(tx: Transaction, tenantId: string, row: InvitationRow): Promise<void> {
  await tx`
    insert into invitations (tenant_id, id, email, role, seller_id, expires_at)
    values (${tenantId}, ${row.id}, ${row.email}, ${row.role}, ${row.sellerId}, ${row.expiresAt.toISOString()})`;
}

/** Marks a live invitation for this e-mail as taken and returns it; null when there is none. */
export async function takeInvitation(tx: Transaction, tenantId: string, id: string, email: string) {
  const [row] = await tx<{ tenantId: string; role: Role; sellerId: string | null }[]>`
    update invitations set accepted_at = now()
    where tenant_id = ${tenantId} and id = ${id} and email = ${email} and accepted_at is null and expires_at > now()
    returning tenant_id as "tenantId", role, seller_id as "sellerId"`;
  return row ?? null;
}

/** Joins, or changes the role of who is in already. */
export async function upsertMember(
  tx: Transaction,
  tenantId: string,
  userId: string,
  role: Role,
  sellerId: string | null,
) {
  await tx`
    insert into memberships (tenant_id, user_id, role, seller_id) values (${tenantId}, ${userId}, ${role}, ${sellerId})
    on conflict (tenant_id, user_id) do update set role = excluded.role, seller_id = excluded.seller_id`;
}
