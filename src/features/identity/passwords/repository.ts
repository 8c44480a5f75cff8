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

/** Null, and nothing stored, when the user has `atMost` open resets already. */
export async function insertReset(
  tx: Transaction,
  { tokenHash, userId, tenantId, validSeconds }: NewReset,
  atMost: number,
): Promise<Date | null> {
  await tx`select from users where id = ${userId} for update`;
  const open = await tx`select from password_resets where user_id = ${userId} and expires_at > now()`;
  if (open.length >= atMost) return null;
  const [row] = await tx<{ expiresAt: Date }[]>`
    insert into password_resets (token_hash, user_id, tenant_id, expires_at)
    values (${tokenHash}, ${userId}, ${tenantId}, now() + ${validSeconds} * interval '1 second')
    returning expires_at as "expiresAt"`;
  return row?.expiresAt ?? null;
}

/** Whether a token opens anything: a look before the cost of a hash. */
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

/** Sets the password, ends every session, and takes back all open resets. Returns the e-mail address. */
export async function replacePassword(
  tx: Transaction,
  userId: string,
  passwordHash: string,
): Promise<string | null> {
  const [row] = await tx<{ email: string }[]>`
    update users set password_hash = ${passwordHash}, session_version = session_version + 1
    where id = ${userId} returning email`;
  await tx`delete from password_resets where user_id = ${userId}`;
  return row?.email ?? null;
}

/** Deletes resets that are over, at most `limit`; returns how many. */
export async function prunePasswordResets(sql: Sql, limit: number): Promise<number> {
  const over = sql`expires_at < now()`;
  const key = { token_hash: "text" } as const;
  return pruneTable(sql, { table: "password_resets", key, over, orderBy: "expires_at" }, limit);
}
