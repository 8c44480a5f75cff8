import type { Topic } from "../../core/domain-events.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { DISABLED_REASONS, WEBHOOK_STATUSES } from "./schema.ts";

/** An endpoint without its secrets, which only signing reads. */
export interface EndpointRow {
  id: string;
  url: string;
  description: string | null;
  topics: Topic[];
  status: (typeof WEBHOOK_STATUSES)[number];
  disabledReason: (typeof DISABLED_REASONS)[number] | null;
  failingSince: Date | null;
  previousSecretUntil: Date | null;
  createdAt: Date;
  updatedAt: Date;
}

const columns = (sql: Sql | Transaction) => sql`id, url, description, topics, status,
  disabled_reason as "disabledReason", failing_since as "failingSince",
  case when previous_secret_until > now() then previous_secret_until end as "previousSecretUntil",
  created_at as "createdAt", updated_at as "updatedAt"`;

/**
 * Makes changes of a tenant's endpoints wait for each other until the transaction ends, so that
 * they can be counted.
 */
export async function holdEndpoints(tx: Transaction, tenantId: string): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`webhooks ${tenantId}`}, 0))`;
}

export async function countEndpoints(tx: Transaction, tenantId: string): Promise<number> {
  const [row] = await tx<{ n: number }[]>`
    select count(*)::int as n from webhook_endpoints where tenant_id = ${tenantId}`;
  return row?.n ?? 0;
}

export interface NewEndpoint {
  id: string;
  url: string;
  description: string | null;
  topics: readonly Topic[];
  secret: string;
}

export async function insertEndpoint(
  tx: Transaction,
  tenantId: string,
  endpoint: NewEndpoint,
): Promise<EndpointRow> {
  const { id, url, description, topics, secret } = endpoint;
  const [row] = await tx<EndpointRow[]>`
    insert into webhook_endpoints (tenant_id, id, url, description, topics, secret, status, created_at, updated_at)
    values (${tenantId}, ${id}, ${url}, ${description}, ${tx.array([...topics])}::text[], ${secret}, 'enabled', now(), now())
    returning ${columns(tx)}`;
  if (!row) throw new Error("the webhook was not stored");
  return row;
}

/** Newest first; ids are time-ordered. `before` is the last id of the page before. */
export async function selectEndpoints(
  sql: Sql,
  tenantId: string,
  before: string | null,
  limit: number,
): Promise<EndpointRow[]> {
  return sql<EndpointRow[]>`
    select ${columns(sql)} from webhook_endpoints
    where tenant_id = ${tenantId} ${before === null ? sql`` : sql`and id < ${before}`}
    order by id desc limit ${limit}`;
}

export async function findEndpoint(sql: Sql, tenantId: string, id: string): Promise<EndpointRow | null> {
  const [row] = await sql<EndpointRow[]>`
    select ${columns(sql)} from webhook_endpoints where tenant_id = ${tenantId} and id = ${id}`;
  return row ?? null;
}

/** Held until the transaction ends. */
export async function lockEndpoint(
  tx: Transaction,
  tenantId: string,
  id: string,
): Promise<EndpointRow | null> {
  const [row] = await tx<EndpointRow[]>`
    select ${columns(tx)} from webhook_endpoints where tenant_id = ${tenantId} and id = ${id} for update`;
  return row ?? null;
}

export type EndpointChange = Pick<
  EndpointRow,
  "url" | "description" | "topics" | "status" | "disabledReason" | "failingSince"
>;

export async function updateEndpoint(
  tx: Transaction,
  tenantId: string,
  id: string,
  change: EndpointChange,
): Promise<EndpointRow> {
  const [row] = await tx<EndpointRow[]>`
    update webhook_endpoints set url = ${change.url}, description = ${change.description},
      topics = ${tx.array([...change.topics])}::text[], status = ${change.status},
      disabled_reason = ${change.disabledReason}, failing_since = ${change.failingSince?.toISOString() ?? null},
      updated_at = now()
    where tenant_id = ${tenantId} and id = ${id} returning ${columns(tx)}`;
  if (!row) throw new Error("the webhook was not held");
  return row;
}

/** The secret that was current signs beside the new one for `overlapSeconds`. */
export async function replaceSecret(
  tx: Transaction,
  tenantId: string,
  id: string,
  secret: string,
  overlapSeconds: number,
): Promise<EndpointRow> {
  const [row] = await tx<EndpointRow[]>`
    update webhook_endpoints set previous_secret = secret,
      previous_secret_until = now() + ${overlapSeconds} * interval '1 second', secret = ${secret}, updated_at = now()
    where tenant_id = ${tenantId} and id = ${id} returning ${columns(tx)}`;
  if (!row) throw new Error("the webhook was not held");
  return row;
}

export async function deleteEndpoint(tx: Transaction, tenantId: string, id: string): Promise<void> {
  await tx`delete from webhook_endpoints where tenant_id = ${tenantId} and id = ${id}`;
}
