import { AppError } from "../../core/errors.ts";
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

/**
 * Makes changes of a tenant's members run one after the other. Not `for update`, which would also
 * delay every row that refers to the tenant, above all sessions.
 */
export async function lockTenant(tx: Transaction, tenantId: string): Promise<void> {
  await tx`select from tenants where id = ${tenantId} for no key update`;
}

/** Holds the row until the transaction ends. */
export async function lockMember(tx: Transaction, tenantId: string, userId: string) {
  const [row] = await tx<{ role: Role; sellerId: string | null }[]>`
    select role, seller_id as "sellerId" from memberships
    where tenant_id = ${tenantId} and user_id = ${userId} for update`;
  return row ?? null;
}

/**
 * Locks the tenant's admins, so that two of them can't demote each other at once. Returns their
 * user ids.
 */
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

/** Of a user, whom no tenant owns. */
export async function selectEmail(tx: Transaction, userId: string): Promise<string | null> {
  const [row] = await tx<{ email: string }[]>`select email from users where id = ${userId}`;
  return row?.email ?? null;
}

/** Makes somebody a member, or changes a member's role. */
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

/** Throws `conflict` when this user is the only one of the tenant's `admins`. */
export function requireOtherAdmin(admins: readonly string[], userId: string): void {
  if (admins.length === 1 && admins[0] === userId) {
    throw new AppError("conflict", "This is the tenant's last admin; make somebody else an admin first.");
  }
}
