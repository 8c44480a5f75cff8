import type { DomainEvent } from "../../core/domain-events.ts";
import type { Fragment, Sql } from "../../db/client.ts";
import { type PageSize, selectWithinBytes } from "../../db/pages.ts";
import type { Transaction } from "../../db/transaction.ts";
import { insertFrom, listOf } from "../outbox/index.ts";
import type { HeldImport } from "./imports-repository.ts";
import type { BatchPlan, StoredProduct } from "./plan-batch.ts";

/** Which part of the file a batch is, and what it is after. */
export interface BatchStep {
  holder: string;
  /** Where the batch begins: if progress is elsewhere, another worker has done it. */
  from: number;
  to: number;
  line: number;
  holdMs: number;
}

export interface TenantFrame {
  currency: string;
  lowStockThreshold: number;
  /** Whether anybody could be told of single products. */
  hasListener: boolean;
}

const hasListener = (tx: Transaction, tenantId: string) => tx`
  exists (select from webhook_endpoints e where e.tenant_id = ${tenantId} and e.status = 'enabled')`;

const fields = (sql: Sql | Transaction) => sql`
  p.id, p.seller_id as "sellerId", p.sku, p.name, p.description, p.price::text as price, p.quantity, p.category,
  p.image_url as "imageUrl", p.status, p.low_stock_threshold as "lowStockThreshold", p.version,
  p.created_at as "createdAt", p.updated_at as "updatedAt", p.deleted_at as "deletedAt"`;

/** Bounds every statement of the transaction that comes after. */
export async function limitStatements(tx: Transaction, ms: number): Promise<void> {
  await tx`select set_config('statement_timeout', ${String(ms)}, true)`;
}

/**
 * Locks the import's row against other workers until the transaction ends, and returns the tenant's
 * settings. Null when progress is not at `from`, or another worker holds the import.
 */
export async function lockImport(
  tx: Transaction,
  { tenantId, id }: Pick<HeldImport, "tenantId" | "id">,
  { holder, from }: Pick<BatchStep, "holder" | "from">,
): Promise<TenantFrame | null> {
  const [row] = await tx<TenantFrame[]>`
    select t.currency, t.low_stock_threshold as "lowStockThreshold", ${hasListener(tx, tenantId)} as "hasListener"
    from product_imports i join tenants t on t.id = i.tenant_id
    where i.tenant_id = ${tenantId} and i.id = ${id} and i.held_by = ${holder} and i.status = 'running'
      and i.position = ${from}
    for update of i`;
  return row ?? null;
}

/**
 * Locks the products that the rows of a batch name, in the order given: callers sort, so that they
 * never deadlock. A subquery that locks can't be merged into the join, so it is one look-up in a
 * unique index for each key. For `id = any(…)` Postgres read the tenant's whole catalogue once a
 * batch.
 */
export async function lockProducts(
  tx: Transaction,
  tenantId: string,
  ids: readonly string[],
  skus: readonly string[],
): Promise<StoredProduct[]> {
  if (ids.length === 0 && skus.length === 0) return [];
  return tx<StoredProduct[]>`
    select found.* from unnest(${tx.array([...ids])}::text[]) as named(id) cross join lateral (
      select ${fields(tx)} from products p where p.tenant_id = ${tenantId} and p.id = named.id for update) found
    union all
    select found.* from unnest(${tx.array([...skus])}::text[]) as named(sku) cross join lateral (
      select ${fields(tx)} from products p
      where p.tenant_id = ${tenantId} and p.sku = named.sku and p.deleted_at is null for update) found`;
}

/**
 * The effect of a batch and its progress, all or nothing: products, their events, the errors of bad
 * rows, and the place in the file. Returns how many products were written, whether progress was
 * where it should be, and whether there is an enabled webhook.
 */
export async function storeBatch(
  tx: Transaction,
  { tenantId, id }: Pick<HeldImport, "tenantId" | "id">,
  plan: BatchPlan,
  step: BatchStep,
  events: readonly DomainEvent[],
): Promise<BatchOutcome> {
  const changedIds = plan.changes.flatMap(({ before, after }) => (before === null ? [] : [after.id]));
  const [row] = await tx<BatchOutcome[]>`
    with moved as (
      update product_imports set position = ${step.to}, line = ${step.line}, rows = rows + ${plan.counts.rows},
        created = created + ${plan.counts.created}, updated = updated + ${plan.counts.updated},
        failed = failed + ${plan.counts.failed}, attempts = 0, changed_ids = ${tx.array(changedIds)}::text[],
        held_until = now() + ${step.holdMs} * interval '1 millisecond'
      where tenant_id = ${tenantId} and id = ${id} and held_by = ${step.holder} and status = 'running'
        and position = ${step.from}
      returning tenant_id, id),
    written as (${upsert(tx, plan)}),
    told as (${insertFrom(tx, tenantId, tx`(select e.* from moved, ${listOf(tx, events)} order by e.place) source`)}),
    refused as (
      insert into product_import_errors (tenant_id, import_id, line, path, message)
      select moved.tenant_id, moved.id, e.line, e.path, e.message
      from moved, unnest(${tx.array(plan.errors.map((error) => error.line))}::int[],
        ${tx.array(plan.errors.map((error) => error.path))}::text[],
        ${tx.array(plan.errors.map((error) => error.message))}::text[]) as e(line, path, message)
      on conflict (tenant_id, import_id, line, path) do nothing)
    select (select count(*)::int from written) as written, (select count(*)::int from moved) as moved,
      ${hasListener(tx, tenantId)} as "hasListener"`;
  return row ?? { written: 0, moved: 0, hasListener: false };
}

export interface BatchOutcome extends Pick<TenantFrame, "hasListener"> {
  written: number;
  moved: number;
}

/** An insert, or an update of the very version that the plan was made from. */
function upsert(tx: Transaction, { changes }: BatchPlan): Fragment {
  const column = <K extends keyof StoredProduct>(key: K) =>
    tx.array(changes.map(({ after }) => after[key]) as string[]);
  const times = (key: "createdAt" | "updatedAt") =>
    tx.array(changes.map(({ after }) => after[key].toISOString()));
  return tx`
    insert into products as stored (tenant_id, id, seller_id, sku, name, description, price, quantity, category, image_url,
      status, version, created_at, updated_at)
    select moved.tenant_id, i.id, i.seller_id, i.sku, i.name, i.description, i.price, i.quantity, i.category, i.image_url,
      i.status, i.version, i.created_at, i.updated_at
    from moved, unnest(${column("id")}::text[], ${column("sellerId")}::text[], ${column("sku")}::text[],
      ${column("name")}::text[], ${column("description")}::text[], ${column("price")}::numeric[],
      ${column("quantity")}::int[], ${column("category")}::text[], ${column("imageUrl")}::text[],
      ${column("status")}::text[], ${column("version")}::int[], ${times("createdAt")}::timestamptz[],
      ${times("updatedAt")}::timestamptz[]) as i(id, seller_id, sku, name, description, price, quantity, category,
      image_url, status, version, created_at, updated_at)
    on conflict (tenant_id, id) do update set seller_id = excluded.seller_id, sku = excluded.sku, name = excluded.name,
      description = excluded.description, price = excluded.price, quantity = excluded.quantity,
      category = excluded.category, image_url = excluded.image_url, status = excluded.status,
      version = excluded.version, updated_at = excluded.updated_at, deleted_at = null
    where stored.version = excluded.version - 1
    returning stored.id`;
}

/**
 * Without statistics Postgres takes any index that begins with the tenant to be as good as that of
 * the skus, and reads all of it for each row: the thirtieth batch took two seconds. autovacuum,
 * once a minute, comes too late.
 */
export async function analyzeProducts(sql: Sql): Promise<void> {
  await sql`analyze products`;
}

/** A page of an export, in the order in which the products were made. */
export async function selectForExport(
  sql: Sql,
  tenantId: string,
  filter: {
    after: { createdAt: string; id: string } | null;
    sellerId: string | null;
    status: string | undefined;
    category: string | undefined;
  },
  { rows, bytes }: PageSize,
): Promise<StoredProduct[]> {
  const { after, sellerId, status, category } = filter;
  const query = sql`
    select ${fields(sql)} from products p
    where p.tenant_id = ${tenantId} and p.deleted_at is null
      ${after === null ? sql`` : sql`and (p.created_at, p.id) > (${after.createdAt}::timestamptz, ${after.id})`}
      ${sellerId === null ? sql`` : sql`and p.seller_id = ${sellerId}`}
      ${status === undefined ? sql`` : sql`and p.status = ${status}`}
      ${category === undefined ? sql`` : sql`and p.category = ${category}`}
    order by p.created_at, p.id limit ${rows}`;
  const sizeOf = sql`octet_length(concat(name, description, category, "imageUrl"))`;
  return selectWithinBytes(sql, { query, orderBy: sql`"createdAt", id`, sizeOf, bytes });
}
