import { and, eq, isNull, sql } from "drizzle-orm";
import { isUuid } from "../../core/ids.ts";
import type { Role } from "../../core/principal.ts";
import type { Database, Orm } from "../../db/client.ts";
import { memberships, refreshTokens, tenants, users } from "../../db/schema/identity.ts";
import type { Transaction } from "../../db/transaction.ts";

export interface UserRow {
  id: string;
  email: string;
  name: string | null;
  passwordHash: string;
  sessionVersion: number;
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

/**
 * By id or slug. The id comes first: somebody may have made a tenant whose slug is another one's
 * id.
 */
export async function findTenant(orm: Orm, idOrSlug: string): Promise<{ id: string; slug: string } | null> {
  const columns = { id: tenants.id, slug: tenants.slug };
  const [byId] = isUuid(idOrSlug)
    ? await orm.select(columns).from(tenants).where(eq(tenants.id, idOrSlug))
    : [];
  if (byId) return byId;
  const [bySlug] = await orm.select(columns).from(tenants).where(eq(tenants.slug, idOrSlug));
  return bySlug ?? null;
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

/** An account without any membership yet. A taken e-mail is a unique violation. */
export async function insertAccount(tx: Transaction, user: NewUser): Promise<Date> {
  const [row] = await tx<{ created_at: Date }[]>`
    insert into users (id, email, name, password_hash)
    values (${user.id}, ${user.email}, ${user.name}, ${user.passwordHash}) returning created_at`;
  return row?.created_at ?? new Date();
}

/**
 * User and membership of an existing tenant, in one statement. A taken e-mail is a unique
 * violation.
 */
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

/**
 * User, tenant and membership as its admin, in one statement. A taken e-mail or slug is a unique
 * violation.
 */
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

export interface RefreshTokenRow {
  tokenHash: string;
  familyId: string;
  userId: string;
  tenantId: string;
  expiresAt: Date;
  sessionVersion: number;
}

export async function insertRefreshToken(orm: Orm, row: RefreshTokenRow): Promise<void> {
  await orm.insert(refreshTokens).values(row);
}

interface RotatedRow {
  familyId: string;
  userId: string;
  tenantId: string;
  sessionVersion: number;
  live: boolean;
}

/**
 * Replaces a live token by its successor in one transaction. Null when the token is unknown,
 * expired, or was used or revoked before: then its whole family ends. The row lock lets one of two
 * uses at once win; the other one then ends the winner's new token, too. Revoking any token ends
 * its family, so a successor made at that moment is no good either.
 */
export async function rotateRefreshToken(
  db: Database,
  tokenHash: string,
  next: { tokenHash: string; expiresAt: Date },
) {
  return db.transaction(async (tx) => {
    const [used] = await tx<RotatedRow[]>`
      select t.family_id as "familyId", t.user_id as "userId", t.tenant_id as "tenantId",
        t.session_version as "sessionVersion",
        t.used_at is null and t.expires_at > now() and t.session_version = u.session_version as live
      from refresh_tokens t join users u on u.id = t.user_id where t.token_hash = ${tokenHash} for update of t`;
    if (!used) return null;
    const { familyId, userId, tenantId, sessionVersion } = used;
    const ended = await tx`
      select from refresh_tokens where family_id = ${familyId} and revoked_at is not null limit 1`;
    if (!used.live || ended.length > 0) {
      await tx`update refresh_tokens set revoked_at = now() where family_id = ${familyId} and revoked_at is null`;
      return null;
    }
    await tx`update refresh_tokens set used_at = now() where token_hash = ${tokenHash}`;
    await tx`
      insert into refresh_tokens (token_hash, family_id, user_id, tenant_id, expires_at, session_version)
      values (${next.tokenHash}, ${familyId}, ${userId}, ${tenantId}, ${next.expiresAt.toISOString()}, ${sessionVersion})`;
    return { userId, tenantId };
  });
}

/**
 * Ends the family that a token belongs to: its owner signed out, or somebody used a token twice.
 */
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

/** The caller's role in a tenant right now; null when there is none any more. */
export async function findMembership(orm: Orm, tenantId: string, userId: string) {
  const rows = await orm
    .select({
      role: memberships.role,
      sellerId: memberships.sellerId,
      sessionVersion: users.sessionVersion,
    })
    .from(memberships)
    .innerJoin(users, eq(users.id, memberships.userId))
    .where(and(eq(memberships.tenantId, tenantId), eq(memberships.userId, userId)));
  return rows[0] ?? null;
}
