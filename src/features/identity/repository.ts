import { and, eq, isNotNull, isNull, sql } from "drizzle-orm";
import type { Role } from "../../core/principal.ts";
import type { Database, Orm } from "../../db/client.ts";
import { memberships, refreshTokens, tenants, users } from "../../db/schema/identity.ts";

export interface UserRow {
  id: string;
  email: string;
  name: string | null;
  passwordHash: string;
  createdAt: Date;
}

export interface MembershipRow {
  tenantId: string;
  tenantName: string;
  role: Role;
  sellerId: string | null;
}

export async function findUserByEmail(orm: Orm, email: string): Promise<UserRow | null> {
  const rows = await orm.select().from(users).where(eq(users.email, email));
  return rows[0] ?? null;
}

export async function findUserById(orm: Orm, userId: string): Promise<UserRow | null> {
  const rows = await orm.select().from(users).where(eq(users.id, userId));
  return rows[0] ?? null;
}

export async function findTenantBySlug(orm: Orm, slug: string): Promise<{ id: string } | null> {
  const rows = await orm.select({ id: tenants.id }).from(tenants).where(eq(tenants.slug, slug));
  return rows[0] ?? null;
}

/** A user's memberships, the oldest first. */
export async function listMemberships(orm: Orm, userId: string): Promise<MembershipRow[]> {
  return orm
    .select({
      tenantId: memberships.tenantId,
      tenantName: tenants.name,
      role: memberships.role,
      sellerId: memberships.sellerId,
    })
    .from(memberships)
    .innerJoin(tenants, eq(tenants.id, memberships.tenantId))
    .where(eq(memberships.userId, userId))
    .orderBy(memberships.createdAt, memberships.tenantId);
}

export interface NewUser {
  id: string;
  email: string;
  name: string | null;
  passwordHash: string;
}

/** User and membership of an existing tenant, in one statement. A taken e-mail is a unique violation. */
export async function insertUser(db: Database, user: NewUser, tenantId: string, role: Role): Promise<Date> {
  const [row] = await db.write<{ created_at: Date }[]>`
    with new_user as (
      insert into users (id, email, name, password_hash)
      values (${user.id}, ${user.email}, ${user.name}, ${user.passwordHash})
      returning id, created_at
    ), new_membership as (
      insert into memberships (tenant_id, user_id, role) select ${tenantId}::uuid, id, ${role} from new_user
    )
    select created_at from new_user`;
  return row?.created_at ?? new Date();
}

/** User, tenant and membership as its admin, in one statement. A taken e-mail or slug is a unique violation. */
export async function insertUserWithTenant(
  db: Database,
  user: NewUser,
  tenant: { id: string; slug: string; name: string },
): Promise<Date> {
  const [row] = await db.write<{ created_at: Date }[]>`
    with new_user as (
      insert into users (id, email, name, password_hash)
      values (${user.id}, ${user.email}, ${user.name}, ${user.passwordHash})
      returning id, created_at
    ), new_tenant as (
      insert into tenants (id, slug, name) values (${tenant.id}, ${tenant.slug}, ${tenant.name}) returning id
    ), new_membership as (
      insert into memberships (tenant_id, user_id, role)
      select new_tenant.id, new_user.id, 'admin' from new_user, new_tenant
    )
    select created_at from new_user`;
  return row?.created_at ?? new Date();
}

export async function insertTenant(
  orm: Orm,
  tenant: { id: string; slug: string; name: string; timeZone?: string },
): Promise<void> {
  await orm.insert(tenants).values(tenant).onConflictDoNothing({ target: tenants.slug });
}

export async function upsertMembership(
  orm: Orm,
  tenantId: string,
  userId: string,
  role: Role,
): Promise<void> {
  await orm
    .insert(memberships)
    .values({ tenantId, userId, role })
    .onConflictDoUpdate({ target: [memberships.tenantId, memberships.userId], set: { role } });
}

export interface RefreshTokenRow {
  tokenHash: string;
  familyId: string;
  userId: string;
  tenantId: string;
  expiresAt: Date;
}

export async function insertRefreshToken(orm: Orm, row: RefreshTokenRow): Promise<void> {
  await orm.insert(refreshTokens).values(row);
}

/** Marks a live token as used and returns it; null when it is unknown, expired, revoked or used already. */
export async function useRefreshToken(orm: Orm, tokenHash: string): Promise<RefreshTokenRow | null> {
  const rows = await orm
    .update(refreshTokens)
    .set({ usedAt: sql`now()` })
    .where(
      and(
        eq(refreshTokens.tokenHash, tokenHash),
        isNull(refreshTokens.usedAt),
        isNull(refreshTokens.revokedAt),
        sql`${refreshTokens.expiresAt} > now()`,
      ),
    )
    .returning();
  const [used] = rows;
  if (!used) return null;
  // A token that was made while its family was being revoked is not marked itself; another one of the family is.
  const revoked = await orm
    .select({ tokenHash: refreshTokens.tokenHash })
    .from(refreshTokens)
    .where(and(eq(refreshTokens.familyId, used.familyId), isNotNull(refreshTokens.revokedAt)))
    .limit(1);
  return revoked.length > 0 ? null : used;
}

/** Ends the family that a token belongs to: its owner signed out, or somebody used a token twice. */
export async function revokeTokenFamily(orm: Orm, tokenHash: string): Promise<void> {
  const family = orm
    .select({ familyId: refreshTokens.familyId })
    .from(refreshTokens)
    .where(eq(refreshTokens.tokenHash, tokenHash));
  const [row] = await family;
  if (!row) return;
  await orm
    .update(refreshTokens)
    .set({ revokedAt: sql`now()` })
    .where(and(eq(refreshTokens.familyId, row.familyId), isNull(refreshTokens.revokedAt)));
}

/** The caller's standing in a tenant right now; null when there is none (any more). */
export async function findMembership(orm: Orm, tenantId: string, userId: string) {
  const rows = await orm
    .select({ role: memberships.role, sellerId: memberships.sellerId })
    .from(memberships)
    .where(and(eq(memberships.tenantId, tenantId), eq(memberships.userId, userId)));
  return rows[0] ?? null;
}
