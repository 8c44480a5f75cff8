import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { factsFrom, PROPERTY_DAILY, upsert } from "./definitions.ts";

export interface Fill {
  property: string;
  state: "filling" | "clearing";
  wanted: boolean;
  version: number;
  fenced: boolean;
  uptoTs: string;
  uptoId: string;
  untilTs: string;
  done: number;
  total: number;
}

/**
 * One at a time a tenant: choosing, filling or clearing properties, or taking events away from
 * them.
 */
export async function lockProperties(tx: Transaction, tenantId: string): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`properties ${tenantId}`}, 0))`;
}

/** Times as text: they may be infinite. */
export async function selectFills(sql: Sql | Transaction, tenantId: string): Promise<Fill[]> {
  return sql<Fill[]>`
    select property, state, wanted, version, fenced, upto_ts::text as "uptoTs", upto_id as "uptoId",
      until_ts::text as "untilTs", done::float8 as done, total::float8 as total
    from property_fills where tenant_id = ${tenantId} order by property`;
}

/** Properties that are being filled. */
export async function selectFilling(sql: Sql, tenantId: string): Promise<string[]> {
  const rows = await sql<{ property: string }[]>`
    select property from property_fills where tenant_id = ${tenantId} and state = 'filling' order by property`;
  return rows.map(({ property }) => property);
}

/**
 * The next tenant with something to fill or clear: the first one after `after` by id, else the
 * first of all.
 */
export async function selectTenantWithFills(
  sql: Sql,
  after: string | null,
  except: readonly string[],
): Promise<string | null> {
  const [row] = await sql<{ tenantId: string }[]>`
    select tenant_id as "tenantId" from property_fills
    where not tenant_id = any(${sql.array([...except])}::text[]::uuid[])
    order by ${after === null ? sql`` : sql`tenant_id <= ${after},`} tenant_id limit 1`;
  return row?.tenantId ?? null;
}

/**
 * Roll-ups of all tenants wait behind a waiter for this lock. A second is more than they usually
 * take.
 */
const FENCE_LOCK_TIMEOUT = "1s";

/**
 * Waits for the roll-ups under way, which may know the earlier properties. Later ones know the new
 * ones, since each waits for this lock before it takes its snapshot. Events stored by then, and not
 * counted by a newer batch, are to be filled.
 */
export async function fence(tx: Transaction, tenantId: string): Promise<void> {
  await tx`select set_config('lock_timeout', ${FENCE_LOCK_TIMEOUT}, true)`;
  await tx`lock table product_daily_stats in share row exclusive mode`;
  const [stored] = await tx<{ until: string; total: string }[]>`
    select coalesce((select max(ts) from events where tenant_id = ${tenantId}), '-infinity')::text as until,
      (select coalesce(sum(events), 0) from event_daily_stats where tenant_id = ${tenantId})::text as total`;
  await tx`
    update property_fills set fenced = true, until_ts = ${stored?.until ?? "-infinity"}::text::timestamptz,
      total = ${stored?.total ?? "0"}::text::bigint
    where tenant_id = ${tenantId} and not fenced`;
}

/**
 * Visits the next events by (ts, id), and adds those to the properties that no newer batch counts
 * itself. Each event is visited once: later events are in newer batches. $1 tenant, $2 properties,
 * $3 their version, $4 and $5 the last event visited, $6 the time of the last one to visit, $7 how
 * many.
 */
const FILL_SOME = `with looked_at as materialized (
    select e.* from events e
    where e.tenant_id = $1 and e.ts >= $4::text::timestamptz and e.ts <= $6::text::timestamptz and (e.ts, e.id) > ($4::text::timestamptz, $5::uuid)
    order by e.ts, e.id limit $7
  ), ${factsFrom(
    "looked_at e join tenants t on t.id = e.tenant_id",
    "t.id = $1",
    `t.id = $1 and not exists (select from event_batches b where b.tenant_id = e.tenant_id and b.batch_id = e.batch_id
      and b.tenant_id = $1 and (b.rolled_up_at is null or b.properties_version >= $3::int))`,
    { dimension: () => "select $1::uuid as tenant_id, property from unnest($2::text[]) as property" },
  )}, filled as (${upsert(PROPERTY_DAILY)})
  select count(*)::int as events, (extract(epoch from min(ts)) * 1000)::float8 as "minMs",
    (extract(epoch from max(ts)) * 1000)::float8 as "maxMs", max(ts)::text as "uptoTs",
    (select id from looked_at order by ts desc, id desc limit 1) as "uptoId"
  from looked_at`;

export interface Filled {
  events: number;
  minMs: number | null;
  maxMs: number | null;
}

/** Fills properties that have come equally far; `done` is true when nothing is left to fill. */
export async function fillSome(
  tx: Transaction,
  tenantId: string,
  fills: readonly Fill[],
  limit: number,
): Promise<Filled & { done: boolean }> {
  const properties = tx.array(fills.map(({ property }) => property));
  const [first] = fills;
  const [row] = await tx.unsafe<(Filled & { uptoTs: string | null; uptoId: string | null })[]>(FILL_SOME, [
    tenantId,
    properties as never,
    first?.version ?? 0,
    first?.uptoTs ?? "-infinity",
    first?.uptoId ?? "",
    first?.untilTs ?? "-infinity",
    limit,
  ]);
  const { events = 0, minMs = null, maxMs = null, uptoTs = null, uptoId = null } = row ?? {};
  const done = events < limit;
  if (done)
    await tx`delete from property_fills where tenant_id = ${tenantId} and property = any(${properties}::text[])`;
  else
    await tx`
      update property_fills set upto_ts = ${uptoTs}::text::timestamptz, upto_id = ${uptoId}, done = done + ${events}
      where tenant_id = ${tenantId} and property = any(${properties}::text[])`;
  return { events, minMs, maxMs, done };
}

/** Deletes rows of a property; fewer than the limit when there are no more. */
export async function clearSome(
  tx: Transaction,
  tenantId: string,
  property: string,
  limit: number,
): Promise<number> {
  const found = await tx<{ day: string; value: string }[]>`
    select day::text, value from property_daily_stats
    where tenant_id = ${tenantId} and property = ${property} order by day, value limit ${limit}`;
  if (found.length === 0) return 0;
  const gone = await tx`
    delete from property_daily_stats gone
    using unnest(${tx.array(found.map(({ day }) => day))}::date[], ${tx.array(found.map(({ value }) => value))}::text[])
      as old(day, value)
    where gone.tenant_id = ${tenantId} and gone.property = ${property} and gone.day = old.day and gone.value = old.value`;
  return gone.count;
}

export async function deleteFill(tx: Transaction, tenantId: string, property: string): Promise<void> {
  await tx`delete from property_fills where tenant_id = ${tenantId} and property = ${property}`;
}

export interface Choice {
  properties: string[];
  version: number;
}

/** What roll-ups count. Null for no tenant. */
export async function selectChoice(sql: Sql | Transaction, tenantId: string): Promise<Choice | null> {
  const [row] = await sql<Choice[]>`
    select breakdown_properties as properties, properties_version as version from tenants where id = ${tenantId}`;
  return row ?? null;
}

export async function updateChoice(tx: Transaction, tenantId: string, choice: Choice): Promise<void> {
  await tx`
    update tenants set breakdown_properties = ${tx.array(choice.properties)}::text[], properties_version = ${choice.version}
    where id = ${tenantId}`;
}

/** From the beginning, whatever became of an earlier fill. */
export async function startFills(
  tx: Transaction,
  tenantId: string,
  properties: readonly string[],
  version: number,
): Promise<void> {
  await tx`
    insert into property_fills (tenant_id, property, state, version)
    select ${tenantId}, property, 'filling', ${version} from unnest(${tx.array([...properties])}::text[]) as property
    on conflict (tenant_id, property) do update set state = excluded.state, version = excluded.version, wanted = false,
      fenced = false, upto_ts = excluded.upto_ts, upto_id = excluded.upto_id, until_ts = excluded.until_ts, done = 0, total = 0`;
}

export async function startClearing(
  tx: Transaction,
  tenantId: string,
  properties: readonly string[],
): Promise<void> {
  await tx`
    insert into property_fills (tenant_id, property, state)
    select ${tenantId}, property, 'clearing' from unnest(${tx.array([...properties])}::text[]) as property
    on conflict (tenant_id, property) do update set state = excluded.state, wanted = false, fenced = false`;
}

/** Of those that are being cleared, which are chosen again. */
export async function updateWanted(
  tx: Transaction,
  tenantId: string,
  wanted: readonly string[],
): Promise<void> {
  await tx`
    update property_fills set wanted = property = any(${tx.array([...wanted])}::text[])
    where tenant_id = ${tenantId} and state = 'clearing'`;
}
