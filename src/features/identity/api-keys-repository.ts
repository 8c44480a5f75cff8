import type { Scope } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { ApiKeyKind } from "./api-keys.ts";

export interface ApiKeyRow {
  id: string;
  name: string;
  kind: ApiKeyKind;
  prefix: string;
  scopes: Scope[];
  expiresAt: Date | null;
  lastUsedAt: Date | null;
  createdAt: Date;
}

export type NewApiKey = Omit<ApiKeyRow, "createdAt" | "lastUsedAt"> & { keyHash: string };

const columns = (sql: Sql | Transaction) => sql`id, name, kind, prefix, scopes, expires_at as "expiresAt",
  last_used_at as "lastUsedAt", created_at as "createdAt"`;
const isLive = (sql: Sql | Transaction) =>
  sql`revoked_at is null and (expires_at is null or expires_at > now())`;

export async function insertApiKey(tx: Transaction, tenantId: string, key: NewApiKey): Promise<ApiKeyRow> {
  const [row] = await tx<ApiKeyRow[]>`
    insert into api_keys (tenant_id, id, name, kind, prefix, key_hash, scopes, expires_at)
    values (${tenantId}, ${key.id}, ${key.name}, ${key.kind}, ${key.prefix}, ${key.keyHash},
      ${tx.array(key.scopes)}::text[], ${key.expiresAt?.toISOString() ?? null})
    returning ${columns(tx)}`;
  if (!row) throw new Error("the API key was not stored");
  return row;
}

/**
 * Keys that still work, newest first; ids are time-ordered. `before` is the last id of the page
 * before.
 */
export async function selectApiKeys(
  sql: Sql,
  tenantId: string,
  before: string | null,
  limit: number,
): Promise<ApiKeyRow[]> {
  return sql<ApiKeyRow[]>`
    select ${columns(sql)} from api_keys
    where tenant_id = ${tenantId} and ${isLive(sql)} ${before === null ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`;
}

/** How many keys still work. */
export async function countApiKeys(tx: Transaction, tenantId: string): Promise<number> {
  const [row] = await tx<{ keys: number }[]>`
    select count(*)::int as keys from api_keys where tenant_id = ${tenantId} and ${isLive(tx)}`;
  return row?.keys ?? 0;
}

/**
 * A live key of the tenant, held until the transaction ends. `replacedBy`: the key that it was
 * rotated to.
 */
export async function lockApiKey(
  tx: Transaction,
  tenantId: string,
  id: string,
): Promise<(ApiKeyRow & { replacedBy: string | null }) | null> {
  const [row] = await tx<(ApiKeyRow & { replacedBy: string | null })[]>`
    select ${columns(tx)}, replaced_by as "replacedBy" from api_keys where tenant_id = ${tenantId} and id = ${id} and ${isLive(tx)} for update`;
  return row ?? null;
}

/**
 * Names the key that takes over, and ends the old one after `seconds`, or earlier if it was to end
 * earlier.
 */
export async function replaceApiKey(
  tx: Transaction,
  tenantId: string,
  id: string,
  replacedBy: string,
  seconds: number,
): Promise<void> {
  await tx`
    update api_keys set replaced_by = ${replacedBy},
      expires_at = least(expires_at, now() + ${seconds} * interval '1 second')
    where tenant_id = ${tenantId} and id = ${id}`;
}

export async function revokeApiKey(tx: Transaction, tenantId: string, id: string): Promise<void> {
  await tx`update api_keys set revoked_at = now() where tenant_id = ${tenantId} and id = ${id}`;
}

/** The live key with this hash, across tenants: the credential names the tenant. */
export async function findApiKey(sql: Sql, keyHash: string) {
  const [row] = await sql<(ApiKeyRow & { tenantId: string; keyHash: string })[]>`
    select tenant_id as "tenantId", key_hash as "keyHash", ${columns(sql)} from api_keys
    where key_hash = ${keyHash} and ${isLive(sql)}`;
  return row ?? null;
}

/** Notes that a key is in use, at most once a minute. */
export async function touchApiKey(sql: Sql, tenantId: string, id: string): Promise<void> {
  await sql`
    update api_keys set last_used_at = now()
    where tenant_id = ${tenantId} and id = ${id}
      and (last_used_at is null or last_used_at < now() - interval '1 minute')`;
}
