import type { JSONValue } from "postgres";
import { newId } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import { pruneOldIds, TENANT_AND_ID } from "../../db/prune.ts";
import type { Transaction } from "../../db/transaction.ts";

/** One change. Secrets never go in: `before` and `after` are what the API itself would show. */
export interface AuditEntry {
  /** Resource and verb, e.g. `api_key.created`. */
  action: string;
  /** Id of what was changed. */
  target: string;
  before?: object;
  after?: object;
}

/** Writes an entry in the transaction of the change, so neither exists without the other. */
export async function recordAudit(tx: Transaction, ctx: RequestContext, entry: AuditEntry): Promise<void> {
  const { principal } = ctx;
  const actorId =
    principal.kind === "user" ? principal.userId : principal.kind === "apiKey" ? principal.keyId : "cli";
  const json = (value: object | undefined) => (value === undefined ? null : tx.json(value as JSONValue));
  await tx`
    insert into audit_log (tenant_id, id, actor_kind, actor_id, action, target, before, after, request_id)
    values (${ctx.tenantId}, ${newId()}, ${principal.kind}, ${actorId}, ${entry.action}, ${entry.target},
      ${json(entry.before)}, ${json(entry.after)}, ${ctx.requestId})`;
}

export interface AuditRow {
  id: string;
  at: Date;
  actorKind: "user" | "apiKey" | "operator";
  actorId: string;
  action: string;
  target: string;
  before: Record<string, unknown> | null;
  after: Record<string, unknown> | null;
  requestId: string;
}

/** Newest first; ids are time-ordered. */
export async function selectAudit(
  sql: Sql,
  tenantId: string,
  before: string | null,
  limit: number,
): Promise<AuditRow[]> {
  return sql<AuditRow[]>`
    select id, at, actor_kind as "actorKind", actor_id as "actorId", action, target, before, after, request_id as "requestId"
    from audit_log
    where tenant_id = ${tenantId} ${before === null ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`;
}

/** Deletes entries that are older than `days`, at most `limit`; returns how many. */
export async function pruneAudit(sql: Sql, days: number, limit: number): Promise<number> {
  return pruneOldIds(sql, { table: "audit_log", key: TENANT_AND_ID, id: "id", days }, limit);
}
