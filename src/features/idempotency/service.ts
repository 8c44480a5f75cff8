import type { JSONValue } from "postgres";
import { AppError } from "../../core/errors.ts";
import { sha256 } from "../../core/ids.ts";
import { principalName, type RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { pruneTable } from "../../db/prune.ts";
import type { RunTransaction, Transaction } from "../../db/transaction.ts";

/**
 * Idempotency-Key: an advisory lock holds the key for the transaction of the effect, which also
 * stores the answer. So the effect happens once or not at all. While one request holds the key,
 * others are refused (409); a later one gets the stored answer. Keys belong to a tenant and
 * principal, and to the payload by a fingerprint.
 */
export interface IdempotentAnswer {
  status: number;
  body: object;
  /** True when this is an earlier request's answer. */
  replayed: boolean;
}

export interface IdempotentRequest {
  /** The header's value; without one, the effect simply runs. */
  key: string | undefined;
  /** What makes two requests the same: operation and payload. */
  operation: string;
  payload: unknown;
}

export type Effect = (tx: Transaction) => Promise<{ status: number; body: object }>;

export type Idempotency = ReturnType<typeof createIdempotency>;

const KEEP_HOURS = 24;
const MAX_KEY_LENGTH = 255;
/** Printable ASCII: what a header can carry unambiguously. */
const KEY = /^[\x21-\x7e]+$/;

export function createIdempotency(transaction: RunTransaction) {
  return async function runIdempotent(
    ctx: RequestContext,
    request: IdempotentRequest,
    effect: Effect,
  ): Promise<IdempotentAnswer> {
    const { key } = request;
    if (key === undefined) return transaction(async (tx) => ({ ...(await effect(tx)), replayed: false }));
    if (key.length > MAX_KEY_LENGTH || !KEY.test(key)) {
      throw new AppError(
        "invalid_input",
        `Idempotency-Key must be 1-${MAX_KEY_LENGTH} printable characters without spaces.`,
      );
    }
    const { tenantId, principal } = ctx;
    const owner = principalName(principal);
    const fingerprint = sha256(`${request.operation} ${JSON.stringify(request.payload)}`);
    return transaction(async (tx) => {
      await holdKey(tx, `${tenantId} ${owner} ${key}`);
      const stored = await findAnswer(tx, tenantId, owner, key);
      if (stored && stored.fingerprint !== fingerprint) {
        throw new AppError(
          "idempotency_key_reused",
          "This Idempotency-Key belongs to a request with another payload.",
        );
      }
      if (stored) return { status: stored.status, body: stored.body, replayed: true };
      const answer = await effect(tx);
      await tx`
        insert into idempotency_keys (tenant_id, principal, key, fingerprint, status, body, expires_at)
        values (${tenantId}, ${owner}, ${key}, ${fingerprint}, ${answer.status}, ${tx.json(answer.body as JSONValue)},
          now() + ${KEEP_HOURS} * interval '1 hour')
        on conflict (tenant_id, principal, key) do update set fingerprint = excluded.fingerprint,
          status = excluded.status, body = excluded.body, expires_at = excluded.expires_at`;
      return { ...answer, replayed: false };
    });
  };
}

/** The key is this transaction's until it ends; throws `conflict` while it is another's. */
async function holdKey(tx: Transaction, name: string): Promise<void> {
  const [row] = await tx<
    { held: boolean }[]
  >`select pg_try_advisory_xact_lock(hashtextextended(${name}, 0)) as held`;
  if (!row?.held)
    throw new AppError("conflict", "A request with this Idempotency-Key is being handled right now.");
}

async function findAnswer(tx: Transaction, tenantId: string, owner: string, key: string) {
  const [row] = await tx<{ fingerprint: string; status: number; body: object }[]>`
    select fingerprint, status, body from idempotency_keys
    where tenant_id = ${tenantId} and principal = ${owner} and key = ${key} and expires_at > now()`;
  return row ?? null;
}

/**
 * Deletes expired keys, at most `limit`; returns how many. A key that was used again meanwhile
 * stays.
 */
export async function pruneIdempotencyKeys(sql: Sql, limit: number): Promise<number> {
  const key = { tenant_id: "uuid", principal: "text", key: "text" } as const;
  const over = sql`expires_at < now()`;
  return pruneTable(sql, { table: "idempotency_keys", key, over, orderBy: "expires_at" }, limit);
}
