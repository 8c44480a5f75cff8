import type { Role } from "../../../core/principal.ts";
import type { Sql } from "../../../db/client.ts";
import { pruneTable } from "../../../db/prune.ts";
import type { Transaction } from "../../../db/transaction.ts";

export interface NewReset {
  tokenHash: string;
  userId: string;
  /** The tenant whose admin made the link; null for one by mail or by the operator. */
  tenantId: string | null;
  validSeconds: number;
}

/**
 * Where the user has `atMost` open resets, the one that ends first makes room, if it may `replace`
 * one. Otherwise nothing is stored and the result is null.
 */
export async function insertReset(
  tx: Transaction,
  { tokenHash, userId, tenantId, validSeconds }: NewReset,
  { atMost, replace }: { atMost: number; replace: boolean },
): Promise<Date | null> {
  await tx`select from users where id = ${userId} for update`;
  const open = await tx<{ tokenHash: string }[]>`
    select token_hash as "tokenHash" from password_resets
    where user_id = ${userId} and expires_at > now() order by expires_at desc`;
  if (open.length >= atMost && !replace) return null;
  for (const first of open.slice(atMost - 1)) await deleteReset(tx, first.tokenHash);
  const [row] = await tx<{ expiresAt: Date }[]>`
    insert into password_resets (token_hash, user_id, tenant_id, expires_at)
    values (${tokenHash}, ${userId}, ${tenantId}, now() + ${validSeconds} * interval '1 second')
    returning expires_at as "expiresAt"`;
  return row?.expiresAt ?? null;
}

/** Takes back a reset whose token reaches nobody. */
export async function deleteReset(sql: Sql | Transaction, tokenHash: string): Promise<void> {
  await sql`delete from password_resets where token_hash = ${tokenHash}`;
}

/**
 * Cancels the resets that admins of a tenant have made: one of them has lost the role, and may have
 * kept a link.
 */
export async function deleteResetsOf(tx: Transaction, tenantId: string): Promise<void> {
  await tx`delete from password_resets where tenant_id = ${tenantId}`;
}

/** Whether a token is valid: checked before the cost of a hash. */
export async function isOpenReset(sql: Sql, tokenHash: string): Promise<boolean> {
  const rows = await sql`select from password_resets where token_hash = ${tokenHash} and expires_at > now()`;
  return rows.length > 0;
}

/** Uses a token up. Null when it is unknown, used or over. */
export async function takeReset(
  tx: Transaction,
  tokenHash: string,
): Promise<{ userId: string; tenantId: string | null } | null> {
  const [row] = await tx<{ userId: string; tenantId: string | null }[]>`
    delete from password_resets where token_hash = ${tokenHash} and expires_at > now()
    returning user_id as "userId", tenant_id as "tenantId"`;
  return row ?? null;
}

/** What a user is in which tenants. */
export async function selectMembershipsOf(tx: Transaction, userId: string) {
  return tx<{ tenantId: string; role: Role; sellerId: string | null }[]>`
    select tenant_id as "tenantId", role, seller_id as "sellerId" from memberships
    where user_id = ${userId} order by tenant_id`;
}

/**
 * Sets the password, ends every session, and cancels all open resets. Returns the e-mail address;
 * null when all sessions were ended since `sessionVersion` was read.
 */
export async function replacePassword(
  tx: Transaction,
  userId: string,
  passwordHash: string,
  sessionVersion?: number,
): Promise<string | null> {
  const unchanged = sessionVersion === undefined ? tx`` : tx`and session_version = ${sessionVersion}`;
  const [row] = await tx<{ email: string }[]>`
    update users set password_hash = ${passwordHash}, session_version = session_version + 1
    where id = ${userId} ${unchanged} returning email`;
  if (!row) return null;
  await tx`delete from password_resets where user_id = ${userId}`;
  return row.email;
}

/** Deletes resets that are over, at most `limit`; returns how many. */
export async function prunePasswordResets(sql: Sql, limit: number): Promise<number> {
  const over = sql`expires_at < now()`;
  const key = { token_hash: "text" } as const;
  return pruneTable(sql, { table: "password_resets", key, over, orderBy: "expires_at" }, limit);
}
