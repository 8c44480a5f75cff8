import type { Sql } from "../../db/client.ts";
import { pruneTable, TENANT_AND_ID } from "../../db/prune.ts";
import { claimFor, type EventRef } from "../outbox/index.ts";
import { dueNow, type Envelope } from "./delivery-log-repository.ts";

/**
 * The work of the deliveries, across tenants: every statement names the tenant of each row that it
 * joins or changes.
 */

/**
 * Domain events -> a delivery for every enabled endpoint of their tenant that wants the topic.
 * Claim and insert are one statement, so a redelivered announcement makes nothing. The id begins
 * like the event's UUIDv7, so it sorts by time.
 */
export async function insertDeliveries(sql: Sql, refs: readonly EventRef[]): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    with claimed as (${claimFor(sql, "webhooks", refs)}),
    wanted as (
      select c.*, e.id as endpoint_id, md5(c.id::text || e.id::text) as hash from claimed c
      join webhook_endpoints e on e.tenant_id = c.tenant_id
      where e.status = 'enabled' and (cardinality(e.topics) = 0 or c.topic = any(e.topics))
    ),
    made as (
      insert into webhook_deliveries (tenant_id, id, endpoint_id, event_id, topic, payload, status, next_attempt_at,
        created_at, subject_id, sequence)
      select tenant_id, (left(id::text, 19) || '8' || substr(hash, 1, 3) || '-' || substr(hash, 4, 12))::uuid,
        endpoint_id, id, topic,
        jsonb_build_object('type', topic, 'data', payload,
          'timestamp', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
        'pending', ${dueNow(sql)}, now(), subject_id, sequence
      from wanted
      returning 1
    )
    select count(*)::int as n from made`;
  return row?.n ?? 0;
}

export interface EndpointKey {
  tenantId: string;
  endpointId: string;
}

/** A delivery that this worker is to try; `attempts` counts this one. */
export interface ClaimedDelivery extends EndpointKey {
  id: string;
  messageId: string;
  payload: Envelope;
  attempts: number;
  /** Names the claim: the end of its lease, as Postgres writes it. */
  leasedUntil: string;
  url: string;
  /** The current one first; the former one too while it is valid. */
  secrets: string[];
}

/**
 * What this worker is sending to an endpoint now, and how much of it in the lane that it claims
 * for.
 */
export interface Busy extends EndpointKey {
  count: number;
  inLane: number;
}

export interface Claim {
  /** Endpoints whose last attempt failed, or the others. */
  failing: boolean;
  /** Those that are free, of all tenants. */
  slots: number;
  slotsPerTenant: number;
  slotsPerEndpoint: number;
  busy: readonly Busy[];
  leaseSeconds: number;
}

/**
 * So many of an endpoint's untried deliveries are read, in the order of their events. Those of one
 * subject are tried one after the other, so a longer run of one product leaves the endpoint one
 * delivery at a time. With many endpoints it is fewer: a thousand with a backlog made a claim five
 * times as slow, and have no slots for more.
 */
const UNTRIED_LOOKED_AT = { most: 100, least: 16, ofAllEndpoints: 10_000 };

/**
 * Due deliveries, for a tenant and an endpoint no more than their slots: a slow endpoint must not
 * fill the page. Tenants take turns, those with few slots first; a tenant's oldest comes first. The
 * claim is a lease: if its worker dies, the delivery is due again. Of two workers that choose the
 * same row, the second waits for its lock and finds it no longer due. Of one subject, only the
 * first untried delivery may begin (docs/domain-events.md). The range of one endpoint and the
 * `not in` keep the planner from an index of all that is due.
 */
export async function claimDeliveries(sql: Sql, claim: Claim): Promise<ClaimedDelivery[]> {
  const { busy, failing, slots, slotsPerTenant, slotsPerEndpoint, leaseSeconds } = claim;
  const tenantIds = busy.map((one) => one.tenantId);
  const endpointIds = busy.map((one) => one.endpointId);
  const counts = busy.map((one) => one.count);
  const inLane = busy.map((one) => one.inLane);
  const { most, least, ofAllEndpoints } = UNTRIED_LOOKED_AT;
  return sql<ClaimedDelivery[]>`
    with busy as materialized (
      select tenant_id, endpoint_id, n, sum(in_lane) over (partition by tenant_id) as of_tenant
      from unnest(${tenantIds}::uuid[], ${endpointIds}::uuid[], ${counts}::int[], ${inLane}::int[])
        as b(tenant_id, endpoint_id, n, in_lane)
    ),
    untried as (
      select greatest(${least}::int, least(${most}::int, ${ofAllEndpoints}::int / greatest(count(*), 1))) as reach
      from webhook_endpoints e where e.status = 'enabled' and (e.failing_since is not null) = ${failing}
    ),
    waiting as (
      select due.tenant_id, due.id, due.next_attempt_at, e.url, e.secret,
        case when e.previous_secret_until > now() then e.previous_secret end as former,
        row_number() over (partition by due.tenant_id order by due.next_attempt_at) as turn
      from webhook_endpoints e
      left join busy on busy.tenant_id = e.tenant_id and busy.endpoint_id = e.id
      cross join lateral (
        select c.*, row_number() over (order by c.next_attempt_at) as place from (
          (select first.tenant_id, first.id, first.next_attempt_at from (
            select u.tenant_id, u.id, u.next_attempt_at, row_number() over (
              partition by coalesce(u.subject_id, u.id::text) order by u.sequence nulls first, u.id) as nth
            from (
              select w.tenant_id, w.id, w.next_attempt_at, w.subject_id, w.sequence from webhook_deliveries w
              where w.tenant_id = e.tenant_id and w.endpoint_id = e.id and w.status = 'pending' and w.attempts = 0
              order by w.sequence nulls first, w.id limit (select reach from untried)
            ) u
          ) first where first.nth = 1 and first.next_attempt_at <= now())
          union all
          (select w.tenant_id, w.id, w.next_attempt_at from webhook_deliveries w
          where w.tenant_id = e.tenant_id and w.endpoint_id >= e.id and w.endpoint_id <= e.id and w.status = 'pending'
            and w.attempts > 0 and w.next_attempt_at <= now()
          order by w.endpoint_id, w.next_attempt_at limit ${slotsPerEndpoint})
        ) c
        order by c.next_attempt_at limit ${slotsPerEndpoint}
      ) due
      where e.status = 'enabled' and (e.failing_since is not null) = ${failing}
        and due.place <= ${slotsPerEndpoint} - coalesce(busy.n, 0)
    ),
    chosen as materialized (
      select waiting.* from waiting
      left join (select distinct tenant_id, of_tenant from busy) taken on taken.tenant_id = waiting.tenant_id
      where turn + coalesce(taken.of_tenant, 0) <= ${slotsPerTenant}
      order by turn + coalesce(taken.of_tenant, 0), next_attempt_at limit ${slots}
    )
    update webhook_deliveries d set next_attempt_at = now() + ${leaseSeconds} * interval '1 second'
    from chosen
    where d.tenant_id = chosen.tenant_id and d.id = chosen.id and d.next_attempt_at <= now()
      and d.status not in ('succeeded', 'failed')
    returning d.tenant_id as "tenantId", d.endpoint_id as "endpointId", d.id, d.event_id as "messageId", d.payload,
      d.attempts + 1 as attempts, d.next_attempt_at::text as "leasedUntil", chosen.url,
      array_remove(array[chosen.secret, chosen.former], null) as secrets`;
}

export interface Attempt {
  status: number | null;
  error: string | null;
  durationMs: number;
}

/**
 * The attempt counts, once it has an outcome, while its lease is the delivery's last: after that,
 * another may have begun.
 */
export async function recordSuccess(sql: Sql, delivery: ClaimedDelivery, attempt: Attempt): Promise<void> {
  const { tenantId, id, leasedUntil } = delivery;
  await sql`
    with done as (
      update webhook_deliveries set status = 'succeeded', attempts = attempts + 1, next_attempt_at = null, finished_at = now(),
        last_status = ${attempt.status}, last_error = null, duration_ms = ${attempt.durationMs}
      where tenant_id = ${tenantId} and id = ${id} and status = 'pending'
        and next_attempt_at = ${leasedUntil}::text::timestamptz
      returning tenant_id, endpoint_id
    )
    update webhook_endpoints e set failing_since = null from done
    where e.tenant_id = ${tenantId} and e.tenant_id = done.tenant_id and e.id = done.endpoint_id
      and e.failing_since is not null`;
}

export interface Failure extends Attempt {
  /** Seconds; null gives the delivery up. */
  retryInSeconds: number | null;
  /** The endpoint wants no more of it: disabled at once. */
  gone: boolean;
  /**
   * An endpoint that has delivered nothing for the first time span is disabled when a delivery
   * older than the second fails.
   */
  disableAfterSeconds: number;
  disableByDeliveryOlderThanSeconds: number;
}

/** Returns why the endpoint was disabled by it; null when it was not. */
export async function recordFailure(
  sql: Sql,
  delivery: ClaimedDelivery,
  failure: Failure,
): Promise<string | null> {
  const { tenantId, id, leasedUntil } = delivery;
  const { retryInSeconds, gone } = failure;
  const failedLong = sql`(done.old and e.failing_since < now() - ${failure.disableAfterSeconds} * interval '1 second')`;
  const [row] = await sql<{ reason: string | null }[]>`
    with done as (
      update webhook_deliveries set attempts = attempts + 1, last_status = ${failure.status}, last_error = ${failure.error},
        duration_ms = ${failure.durationMs}, status = ${retryInSeconds === null ? "failed" : "pending"},
        next_attempt_at = now() + ${retryInSeconds}::float8 * interval '1 second',
        finished_at = ${retryInSeconds === null ? sql`now()` : sql`null`}
      where tenant_id = ${tenantId} and id = ${id} and status = 'pending'
        and next_attempt_at = ${leasedUntil}::text::timestamptz
      returning tenant_id, endpoint_id,
        created_at < now() - ${failure.disableByDeliveryOlderThanSeconds} * interval '1 second' as old
    )
    update webhook_endpoints e set failing_since = coalesce(e.failing_since, now()),
      status = case when ${gone} or ${failedLong} then 'disabled' else e.status end,
      disabled_reason = case when ${gone} then 'gone' when ${failedLong} then 'failing' end,
      updated_at = case when ${gone} or ${failedLong} then now() else e.updated_at end
    from done
    where e.tenant_id = ${tenantId} and e.tenant_id = done.tenant_id and e.id = done.endpoint_id
      and e.status = 'enabled' and (e.failing_since is null or ${gone} or ${failedLong})
    returning e.disabled_reason as reason`;
  return row?.reason ?? null;
}

/** Ends what waits for endpoints that are disabled or gone, at most `limit`; returns how many. */
export async function endUnwanted(sql: Sql, limit: number): Promise<number> {
  const rows = await sql`
    update webhook_deliveries d set status = 'failed', next_attempt_at = null, finished_at = now(),
      last_error = coalesce(d.last_error, 'the webhook was disabled or deleted')
    from (
      select w.tenant_id, w.id from webhook_deliveries w
      left join webhook_endpoints e on e.tenant_id = w.tenant_id and e.id = w.endpoint_id and e.status = 'enabled'
      where w.status = 'pending' and e.id is null limit ${limit}
    ) unwanted
    where d.tenant_id = unwanted.tenant_id and d.id = unwanted.id and d.status = 'pending'`;
  return rows.count;
}

/** Deletes deliveries that ended so many days ago, at most `limit`; returns how many. */
export async function pruneDeliveries(sql: Sql, keepDays: number, limit: number): Promise<number> {
  const over = sql`finished_at < now() - ${keepDays} * interval '1 day'`;
  return pruneTable(
    sql,
    { table: "webhook_deliveries", key: TENANT_AND_ID, over, orderBy: "finished_at" },
    limit,
  );
}

/** Whether there is anything to claim, for one read of an index. */
export async function hasDue(sql: Sql): Promise<boolean> {
  const rows =
    await sql`select from webhook_deliveries where status = 'pending' and next_attempt_at <= now() limit 1`;
  return rows.count > 0;
}

/** Deliveries whose time has come, counted up to `limit`. */
export async function countDue(sql: Sql, limit: number): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from (
      select from webhook_deliveries where status = 'pending' and next_attempt_at <= now() limit ${limit}
    ) due`;
  return row?.n ?? 0;
}
