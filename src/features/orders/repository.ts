import type { Fragment, Sql } from "../../db/client.ts";
import { deleteByKey, pruneOldIds, pruneTable } from "../../db/prune.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Order, OrderListQuery, OrderStatus, OrderSummary } from "./schema.ts";

export interface NewOrder {
  id: string;
  messageId: string;
  createdAt: string;
  groupId: string;
  userId: string | null;
  customerName: string;
  customerEmail: string;
  items: { productId: string; quantity: number }[];
  requestedBy: string;
  deduplication: { owner: string; id: string } | null;
}

/** A command that nobody has handled by then is taken by the sweeper. */
const DUE_AFTER_SECONDS = 3;
const DEDUPLICATION_MINUTES = 5;

/**
 * G5: the order, its lines and its command in one statement. The row of the group numbers the
 * command and stays locked until the commit. So positions follow the order of commits: whoever sees
 * a position sees all before it. A `deduplicationId` that still counts yields the order that it
 * made first.
 */
export async function enqueueOrder(
  sql: Sql | Transaction,
  tenantId: string,
  order: NewOrder,
): Promise<{ id: string; messageId: string }> {
  const { id, messageId, deduplication } = order;
  // Not sql.array: until a pool has read the types of its database, it sends something that is no
  // array.
  const lines = order.items.map(({ productId, quantity }, n) => ({
    line: n + 1,
    product_id: productId,
    quantity,
  }));
  const [row] = await sql<{ id: string; messageId: string }[]>`
    with first as (
      ${deduplication ? upsertDeduplication(sql, tenantId, order, deduplication) : sql`select ${id}::uuid as order_id, ${messageId}::uuid as message_id`}
    ), turn as (
      insert into order_groups as known (tenant_id, group_id, next_position)
      select ${tenantId}::uuid, ${order.groupId}, ${firstPosition(sql)} + 1 from first where order_id = ${id}
      on conflict (tenant_id, group_id) do update set next_position = known.next_position + 1
      returning next_position - 1 as position
    ), placed as (
      insert into orders (tenant_id, id, group_id, user_id, customer_name, customer_email, status, created_at, updated_at)
      select ${tenantId}::uuid, ${id}::uuid, ${order.groupId}, ${order.userId}, ${order.customerName},
        ${order.customerEmail}, 'queued', ${order.createdAt}::timestamptz, ${order.createdAt}::timestamptz from turn
    ), lines as (
      insert into order_items (tenant_id, order_id, line, product_id, quantity)
      select ${tenantId}::uuid, ${id}::uuid, line, product_id, quantity
      from turn cross join jsonb_to_recordset(${sql.json(lines)}) as item(line int, product_id text, quantity int)
    ), command as (
      ${insertCommand(sql, tenantId, { messageId, groupId: order.groupId, orderId: id, kind: "create", toStatus: "pending", requestedBy: order.requestedBy })}
    )
    select order_id as id, message_id as "messageId" from first`;
  if (!row) throw new Error("an enqueued order must come back");
  return row;
}

/**
 * The position of a group's first command: the time in milliseconds. So a group that was pruned and
 * comes again goes on above the positions in the history of its orders.
 */
function firstPosition(sql: Sql | Transaction): Fragment {
  return sql`(extract(epoch from now()) * 1000)::bigint`;
}

/**
 * The lock of the row makes concurrent equal ids wait for each other: the second sees the first's
 * order.
 */
function upsertDeduplication(
  sql: Sql | Transaction,
  tenantId: string,
  { id, messageId }: NewOrder,
  { owner, id: deduplicationId }: { owner: string; id: string },
): Fragment {
  return sql`insert into order_deduplications as known (tenant_id, owner, deduplication_id, order_id, message_id, expires_at)
      values (${tenantId}, ${owner}, ${deduplicationId}, ${id}, ${messageId}, now() + ${DEDUPLICATION_MINUTES} * interval '1 minute')
      on conflict (tenant_id, owner, deduplication_id) do update set
        order_id = case when known.expires_at < now() then excluded.order_id else known.order_id end,
        message_id = case when known.expires_at < now() then excluded.message_id else known.message_id end,
        expires_at = case when known.expires_at < now() then excluded.expires_at else known.expires_at end
      returning order_id, message_id`;
}

export interface NewCommand {
  messageId: string;
  groupId: string;
  orderId: string;
  kind: "create" | "status" | "cancel";
  toStatus: OrderStatus;
  requestedBy: string;
}

/** From the CTE `turn`, which holds the position; nothing when that is empty. */
function insertCommand(sql: Sql | Transaction, tenantId: string, command: NewCommand): Fragment {
  return sql`insert into order_commands
        (tenant_id, group_id, position, id, order_id, kind, to_status, requested_by, state, created_at, due_at)
      select ${tenantId}::uuid, ${command.groupId}, position, ${command.messageId}::uuid, ${command.orderId}::uuid,
        ${command.kind}, ${command.toStatus}, ${command.requestedBy}, 'waiting', now(),
        now() + ${DUE_AFTER_SECONDS} * interval '1 second' from turn`;
}

/** A command on an order that exists, at the end of its group. */
export async function enqueueCommand(tx: Transaction, tenantId: string, command: NewCommand): Promise<void> {
  await tx`
    with turn as (
      insert into order_groups as known (tenant_id, group_id, next_position)
      values (${tenantId}, ${command.groupId}, ${firstPosition(tx)} + 1)
      on conflict (tenant_id, group_id) do update set next_position = known.next_position + 1
      returning next_position - 1 as position
    )
    ${insertCommand(tx, tenantId, command)}`;
}

export interface OrderRow extends Omit<OrderSummary, "createdAt" | "updatedAt"> {
  createdAt: Date;
  updatedAt: Date;
}

export interface OrderFilter extends Omit<OrderListQuery, "cursor"> {
  userId?: string;
  before?: { createdAt: string; id: string };
}

/** Newest first, hidden ones left out. */
export async function selectOrders(sql: Sql, tenantId: string, filter: OrderFilter): Promise<OrderRow[]> {
  const { status, customerEmail, userId, from, to, before, limit } = filter;
  return sql<OrderRow[]>`
    select ${orderColumns(sql)} from orders o ${itemsOf(sql, tenantId)}
    where o.tenant_id = ${tenantId} and o.hidden_at is null
      ${status === undefined ? sql`` : sql`and o.status = ${status}`}
      ${customerEmail === undefined ? sql`` : sql`and o.customer_email = ${customerEmail}`}
      ${userId === undefined ? sql`` : sql`and o.user_id = ${userId}`}
      ${from === undefined ? sql`` : sql`and o.created_at >= ${from}`}
      ${to === undefined ? sql`` : sql`and o.created_at < ${to}`}
      ${before === undefined ? sql`` : sql`and (o.created_at, o.id) < (${before.createdAt}::timestamptz, ${before.id}::uuid)`}
    order by o.created_at desc, o.id desc limit ${limit}`;
}

/** An order with its history, in one snapshot; null when there is none, or it is hidden. */
export async function selectOrder(
  sql: Sql,
  tenantId: string,
  id: string,
): Promise<(OrderRow & { history: Order["history"] }) | null> {
  const [row] = await sql<(OrderRow & { history: Order["history"] })[]>`
    select ${orderColumns(sql)}, h.history from orders o ${itemsOf(sql, tenantId)}
    cross join lateral (
      select coalesce(json_agg(json_build_object('messageId', message_id, 'from', from_status, 'to', to_status,
        'outcome', outcome, 'reason', reason,
        'at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) order by position, id), '[]') as history
      from order_history where tenant_id = ${tenantId} and tenant_id = o.tenant_id and order_id = o.id
    ) h
    where o.tenant_id = ${tenantId} and o.id = ${id} and o.hidden_at is null`;
  return row ?? null;
}

function orderColumns(sql: Sql): Fragment {
  return sql`o.id, o.group_id as "groupId", o.user_id as "userId", o.customer_name as "customerName",
    o.customer_email as "customerEmail", o.status, o.reason, o.reason_product_id as "reasonProductId",
    o.created_at as "createdAt", o.updated_at as "updatedAt", i.items, i.amount`;
}

function itemsOf(sql: Sql, tenantId: string): Fragment {
  return sql`cross join lateral (
      select json_agg(json_build_object('productId', product_id, 'quantity', quantity, 'unitPrice', unit_price) order by line)
        as items, sum(quantity * unit_price)::float8 as amount
      from order_items where tenant_id = ${tenantId} and tenant_id = o.tenant_id and order_id = o.id
    ) i`;
}

/**
 * What a command on an order is checked against; null when there is no such order, or it is hidden.
 */
export async function selectStanding(tx: Transaction, tenantId: string, id: string) {
  const [row] = await tx<{ groupId: string; userId: string | null; status: OrderStatus }[]>`
    select group_id as "groupId", user_id as "userId", status from orders
    where tenant_id = ${tenantId} and id = ${id} and hidden_at is null`;
  return row ?? null;
}

/** Deletes expired deduplication ids, at most `limit`; returns how many. */
export async function pruneDeduplications(sql: Sql, limit: number): Promise<number> {
  const key = { tenant_id: "uuid", owner: "text", deduplication_id: "text" } as const;
  const over = sql`expires_at < now()`;
  return pruneTable(sql, { table: "order_deduplications", key, over, orderBy: "expires_at" }, limit);
}

const GROUP_KEY = { tenant_id: "uuid", group_id: "text" } as const;

/**
 * Deletes at most `limit` commands that were done a week ago, and the groups that have none left;
 * returns how many commands. In one transaction, since a group is found by its last commands only.
 */
export async function pruneCommands(tx: Transaction, limit: number): Promise<number> {
  const over = tx`state = 'done' and finished_at < now() - interval '7 days'`;
  const key = { ...GROUP_KEY, position: "bigint" } as const;
  const found = await tx<{ tenant_id: string; group_id: string; position: string }[]>`
    select tenant_id, group_id, position from order_commands where ${over} order by finished_at limit ${limit}`;
  if (found.length === 0) return 0;
  const { count } = await deleteByKey(tx, { table: "order_commands", key, over }, found);
  await pruneGroups(tx, found);
  return count;
}

/**
 * Deletes those of the groups that have no command. A command that is being placed holds the
 * group's row and moves `next_position` on: the deletion waits for it, and then leaves the group
 * alone.
 */
async function pruneGroups(
  tx: Transaction,
  groups: readonly { tenant_id: string; group_id: string }[],
): Promise<void> {
  const key = { ...GROUP_KEY, next_position: "bigint" } as const;
  const idle = await tx<{ tenant_id: string; group_id: string; next_position: string }[]>`
    select tenant_id, group_id, next_position from order_groups g
    where (tenant_id, group_id) in (
        select * from unnest(${groups.map((group) => group.tenant_id)}::uuid[],
          ${groups.map((group) => group.group_id)}::text[]))
      and not exists (
        select 1 from order_commands c where c.tenant_id = g.tenant_id and c.group_id = g.group_id)`;
  if (idle.length > 0) await deleteByKey(tx, { table: "order_groups", key }, idle);
}

/** Deletes history that is older than `days`, of orders that are as old; returns how many rows. */
export async function pruneHistory(sql: Sql, days: number, limit: number): Promise<number> {
  const key = { tenant_id: "uuid", order_id: "uuid", id: "uuid" } as const;
  const over = sql`old.at < now() - ${days} * interval '1 day'`;
  return pruneOldIds(sql, { table: "order_history", key, id: "order_id", days, over }, limit);
}
