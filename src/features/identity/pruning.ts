import type { Sql } from "../../db/client.ts";
import { deleteByKey, pruneTable, TENANT_AND_ID } from "../../db/prune.ts";

/**
 * Families whose tokens one round reads, and tokens of each: a client may have refreshed for
 * months.
 */
const FAMILIES_A_ROUND = 100;
const KEEP_INVITATION_DAYS = 30;
const KEEP_KEY_DAYS = 90;

/**
 * Deletes the tokens of ended sessions, at most `limit`; returns how many. A family goes a day
 * after its last token, the one that was not swapped, has expired. Until then a used token must be
 * known, since using it again ends the family. The last token goes last, because the family is
 * found by it.
 */
export async function pruneRefreshTokens(sql: Sql, limit: number): Promise<number> {
  const each = Math.max(1, Math.floor(limit / FAMILIES_A_ROUND));
  const rows = await sql<{ token_hash: string }[]>`
    select token.token_hash from (
      select family_id from refresh_tokens
      where used_at is null and expires_at < now() - interval '1 day' order by expires_at limit ${FAMILIES_A_ROUND}
    ) ended cross join lateral (
      select t.token_hash from refresh_tokens t
      where t.family_id = ended.family_id order by t.used_at nulls last limit ${each}
    ) token`;
  if (rows.length === 0) return 0;
  const key = { token_hash: "text" } as const;
  const deleted = await deleteByKey(sql, { table: "refresh_tokens", key }, rows);
  return deleted.count;
}

/**
 * Deletes invitations that ran out a month ago, taken or not, at most `limit`; returns how many.
 */
export async function pruneInvitations(sql: Sql, limit: number): Promise<number> {
  const over = sql`expires_at < now() - ${KEEP_INVITATION_DAYS} * interval '1 day'`;
  return pruneTable(sql, { table: "invitations", key: TENANT_AND_ID, over, orderBy: "expires_at" }, limit);
}

/**
 * Deletes API keys that were revoked or ran out three months ago, at most `limit`; returns how
 * many.
 */
export async function pruneApiKeys(sql: Sql, limit: number): Promise<number> {
  const over = sql`least(revoked_at, expires_at) < now() - ${KEEP_KEY_DAYS} * interval '1 day'`;
  return pruneTable(sql, { table: "api_keys", key: TENANT_AND_ID, over, orderBy: "created_at" }, limit);
}
