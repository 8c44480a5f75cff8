import { newId } from "../../core/ids.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Command, Effects, OrderLine, OrderState } from "./decide.ts";

export interface ClaimedCommand extends Command {
  /** False while a failed command waits for its next try. */
  ready: boolean;
}

/**
 * G5: takes the waiting commands of these groups, `perGroup` of each from the first on, and locks
 * them until the transaction ends. The lock of the first command is that of its group: a group
 * whose first command is locked or was just handled yields nothing, and commands behind one that
 * could not be locked wait, too. `line` is what waits in the statement's snapshot; only its locked
 * prefix counts. Both are read group by group: with a join the planner, who can't know how much
 * waits, reads the whole queue.
 */
export async function claimCommands(
  tx: Transaction,
  tenantId: string,
  groupIds: readonly string[],
  perGroup: number,
): Promise<ClaimedCommand[]> {
  const rows = await tx<(ClaimedCommand & { line: number[] })[]>`
    select wanted.group_id as "groupId", waiting.line, c.*
    from unnest(${tx.array([...groupIds])}::text[]) as wanted(group_id)
    cross join lateral (
      select array(
        select w.position::float8 from order_commands w
        where w.tenant_id = ${tenantId} and w.group_id = wanted.group_id and w.state = 'waiting'
        order by w.position limit ${perGroup}
      ) as line
    ) waiting
    cross join lateral (
      select position::float8 as position, id, order_id as "orderId", kind, to_status as "toStatus", attempts,
        attempts = 0 or due_at <= now() as ready
      from order_commands
      where tenant_id = ${tenantId} and group_id = wanted.group_id and state = 'waiting'
      order by order_commands.position limit ${perGroup} for update skip locked
    ) c`;
  const claimed: ClaimedCommand[] = [];
  for (const locked of Map.groupBy(rows, (row) => row.groupId).values()) {
    locked.sort((a, b) => a.position - b.position);
    for (const [index, { line, ...command }] of locked.entries()) {
      if (line[index] !== command.position) break;
      claimed.push(command);
    }
  }
  return claimed;
}

/** The orders with their lines. Only the holder of a group's lock changes them. */
export async function readOrders(
  tx: Transaction,
  tenantId: string,
  orderIds: readonly string[],
): Promise<Map<string, OrderState>> {
  const ids = tx.array([...orderIds]);
  const [orders, items] = await Promise.all([
    tx<Omit<OrderState, "items">[]>`
      select id, user_id as "userId", customer_name as "customerName", customer_email as "customerEmail", status
      from orders where tenant_id = ${tenantId} and id = any(${ids}::uuid[])`,
    tx<(OrderLine & { orderId: string })[]>`
      select order_id as "orderId", line, product_id as "productId", quantity, unit_price::text as "unitPrice",
        stock_taken as "stockTaken"
      from order_items where tenant_id = ${tenantId} and order_id = any(${ids}::uuid[])`,
  ]);
  const linesOf = Map.groupBy(items, (item) => item.orderId);
  return new Map(
    orders.map((order) => [
      order.id,
      { ...order, items: (linesOf.get(order.id) ?? []).toSorted((a, b) => a.line - b.line) },
    ]),
  );
}

/** Writes what was decided about orders, and marks the commands done. */
export async function writeOutcomes(
  tx: Transaction,
  tenantId: string,
  { orders, hidden, accepted, outcomes }: Effects,
  handled: { at: string; by: string },
): Promise<void> {
  const changes = [...orders].map(([id, change]) => ({ id, ...change }));
  const history = outcomes.map((outcome) => ({ ...outcome, messageId: outcome.id, id: newId() }));
  await Promise.all([
    tx`update orders o set status = c.status, reason = c.reason, reason_product_id = c."reasonProductId",
        updated_at = ${handled.at}::timestamptz
      from jsonb_to_recordset(${tx.json(changes as never)})
        as c(id uuid, status text, reason text, "reasonProductId" text)
      where o.tenant_id = ${tenantId} and o.id = c.id`,
    hidden.size > 0 &&
      tx`update orders set hidden_at = ${handled.at}::timestamptz
        where tenant_id = ${tenantId} and id = any(${tx.array([...hidden])}::uuid[])`,
    tx`update order_items i set unit_price = a."unitPrice", stock_taken = a."stockTaken"
      from jsonb_to_recordset(${tx.json(accepted)})
        as a("orderId" uuid, line int, "unitPrice" numeric, "stockTaken" boolean)
      where i.tenant_id = ${tenantId} and i.order_id = a."orderId" and i.line = a.line`,
    tx`insert into order_history
        (tenant_id, order_id, id, position, message_id, from_status, to_status, outcome, reason, at)
      select ${tenantId}::uuid, "orderId", id, position, "messageId", "fromStatus", "toStatus", outcome, reason,
        ${handled.at}::timestamptz
      from jsonb_to_recordset(${tx.json(history as never)}) as h("orderId" uuid, id uuid, position bigint,
        "messageId" uuid, "fromStatus" text, "toStatus" text, outcome text, reason text)`,
    tx`update order_commands c set state = 'done', outcome = d.outcome, finished_at = statement_timestamp(), finished_by = ${handled.by}
      from jsonb_to_recordset(${tx.json(history as never)}) as d("groupId" text, position bigint, outcome text)
      where c.tenant_id = ${tenantId} and c.group_id = d."groupId" and c.position = d.position`,
  ]);
}

/**
 * Records a failed try of a waiting command; true when it was the last one. `delaysSeconds` are
 * those of the retries.
 */
export async function recordFailure(
  sql: Sql,
  tenantId: string,
  command: Command,
  error: string,
  delaysSeconds: readonly number[],
): Promise<boolean> {
  const delay = delaysSeconds[command.attempts];
  const rows = await sql`
    update order_commands set attempts = attempts + 1, last_error = ${error},
      state = ${delay === undefined ? "dead" : "waiting"}, due_at = now() + ${delay ?? 0} * interval '1 second',
      finished_at = ${delay === undefined ? sql`now()` : sql`null`}
    where tenant_id = ${tenantId} and group_id = ${command.groupId} and position = ${command.position}
      and state = 'waiting' and attempts = ${command.attempts}
    returning position`;
  return rows.length > 0 && delay === undefined;
}

/** Heads that could not be tried have their turn later; no try is counted. */
export async function postpone(
  sql: Sql,
  tenantId: string,
  heads: readonly { groupId: string; position: number; delayMs: number }[],
): Promise<void> {
  if (heads.length === 0) return;
  const rows = heads.map(({ groupId, position, delayMs }) => ({ groupId, position, delayMs }));
  await sql`
    update order_commands c set due_at = now() + h."delayMs" * interval '1 millisecond'
    from jsonb_to_recordset(${sql.json(rows)}) as h("groupId" text, position bigint, "delayMs" float8)
    where c.tenant_id = ${tenantId} and c.group_id = h."groupId" and c.position = h.position and c.state = 'waiting'`;
}

export interface GroupRef {
  tenantId: string;
  groupId: string;
}

/**
 * Groups of all tenants whose first command is overdue or to be retried, the longest overdue first.
 * It reads what is due in the order of the index and checks whether it is the first of its group,
 * so commands that are not due cost nothing.
 */
export async function selectDueGroups(sql: Sql, limit: number): Promise<GroupRef[]> {
  return sql<GroupRef[]>`
    select tenant_id as "tenantId", group_id as "groupId" from order_commands head
    where state = 'waiting' and due_at <= now() and not exists (
      select from order_commands before
      where before.tenant_id = head.tenant_id and before.group_id = head.group_id and before.state = 'waiting'
        and before.position < head.position
    )
    order by due_at limit ${limit}`;
}
