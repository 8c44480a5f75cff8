import type { Day } from "../../core/days.ts";
import type { Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";

/**
 * `daily_return_stats`, by which distinct users, buyers and sessions of any range of days are a
 * sum. It counts the rows of a rollup that are `folded`, each with its member's day before it.
 * Invariant: it equals `RECOUNTED` at every commit. Folding and counts change only behind
 * `lockReturns`. See docs/unique-visitors.md.
 */
export interface Returns {
  subject: "user" | "buyer" | "session";
  table: string;
  member: string;
  /** A row of it counts something while this is not 0. */
  measure: string;
}

export const USER_RETURNS: Returns = {
  subject: "user",
  table: "user_daily_stats",
  member: "user_key",
  measure: "events",
};
export const BUYER_RETURNS: Returns = {
  subject: "buyer",
  table: "buyer_daily_stats",
  member: "user_key",
  measure: "purchases",
};
export const SESSION_RETURNS: Returns = {
  subject: "session",
  table: "session_daily_stats",
  member: "session_id",
  measure: "events",
};
/**
 * The `previous_day` under which a day's members are counted all together, so that a series by day
 * reads one row a day.
 */
export const ALL_MEMBERS = "infinity";

export const RETURNS: readonly Returns[] = [USER_RETURNS, BUYER_RETURNS, SESSION_RETURNS];

export interface MemberDay {
  day: Day;
  member: string;
}

/** What a set of rows does to the counts when it is folded, and undoes when it no longer is. */
export interface FoldedChange {
  /** Rows by name. Not folded when this is called: not yet, or deleted already. */
  rows?: readonly MemberDay[];
  /** And all folded rows of the days from `from` up to `until`, which is not among them. */
  days?: { from: Day; until: Day };
  direction: "in" | "out";
}

/**
 * One at a time a tenant and subject: two that change days of one member would not see each
 * other's.
 */
export async function lockReturns(tx: Transaction, tenantId: string, { subject }: Returns): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`returns ${subject} ${tenantId}`}, 0))`;
}

/**
 * Unfolded rows, locked in key order. Rows that a worker is writing are left to the next round, so
 * nobody waits.
 */
export async function lockUnfolded(
  tx: Transaction,
  tenantId: string,
  { table, member }: Returns,
  limit: number,
): Promise<MemberDay[]> {
  return tx<MemberDay[]>`
    select waiting.day::text, waiting.${tx(member)} as member from ${tx(table)} waiting
    where waiting.tenant_id = ${tenantId} and not waiting.folded
    order by waiting.day, waiting.${tx(member)} limit ${limit} for update skip locked`;
}

export async function markFolded(
  tx: Transaction,
  tenantId: string,
  { table, member }: Returns,
  rows: readonly MemberDay[],
): Promise<void> {
  await tx`
    update ${tx(table)} kept set folded = true
    from unnest(${tx.array(rows.map(({ day }) => day))}::date[], ${tx.array(rows.map((row) => row.member))}::text[])
      as named(day, member)
    where kept.tenant_id = ${tenantId} and kept.day = named.day and kept.${tx(member)} = named.member`;
}

/**
 * The folded day of a changed row's member next to it, before or after, that is not changed itself.
 * `$2` and `$3` are the days of which all rows change. Compared as rows (member, day), since only
 * the index by members has that order: asked for the latest day of a member, Postgres read the
 * index by days on a table without statistics.
 */
function neighbour({ table, member }: Returns, side: "before" | "after"): string {
  const inDays = "changed.day >= $2::date and changed.day < $3::date";
  const [bounds, order] =
    side === "before"
      ? [
          `(near.${member}, near.day) < (changed.member, case when ${inDays} then $2::date else changed.day end)
        and (near.${member}, near.day) >= (changed.member, '-infinity'::date)`,
          "desc",
        ]
      : [
          `(near.${member}, near.day) > (changed.member, case when ${inDays} then $3::date - 1 else changed.day end)
        and (near.${member}, near.day) <= (changed.member, 'infinity'::date)`,
          "asc",
        ];
  return `select near.${member} as member, near.day, false from changed cross join lateral (
      select near.${member}, near.day from ${table} near
      where near.tenant_id = $1 and near.folded and ${bounds}
      order by near.${member} ${order}, near.day ${order} limit 1
    ) near`;
}

/**
 * Adds the pairs (day, day before) that the changed rows make of their members, or takes them away:
 * the pairs of these rows and of their neighbours, with the changed rows minus without them. $1
 * tenant, $2 and $3 days, $4 and $5 rows by name, $6 1 or -1. Reading all days of the members took
 * 6.2 s for 5,000 rows of members with a year of days.
 */
function changeStatement(returns: Returns): string {
  const { subject, table, member } = returns;
  return `with changed as materialized (
    select day, member from unnest($4::date[], $5::text[]) as named(day, member)
    union all
    select day, ${member} from ${table} where tenant_id = $1 and day >= $2::date and day < $3::date and folded
  ), days as (
    select member, day, true as is_changed from changed
    union all (${neighbour(returns, "before")} union ${neighbour(returns, "after")})
  ), preceded as (
    select day, is_changed, lag(day) over own as previous_with,
      max(day) filter (where not is_changed) over (own rows between unbounded preceding and 1 preceding) as previous_without
    from days window own as (partition by member order by day)
  ), effect as (
    select day, coalesce(previous_with, '-infinity') as previous_day, 1 as members from preceded
    union all
    select day, coalesce(previous_without, '-infinity'), -1 from preceded where not is_changed
    union all
    select day, '${ALL_MEMBERS}', 1 from preceded where is_changed
  )
  insert into daily_return_stats as kept (tenant_id, subject, day, previous_day, members)
  select $1, '${subject}', day, previous_day, $6::int * sum(members)::bigint from effect
  group by day, previous_day having sum(members) <> 0 order by day, previous_day
  on conflict (tenant_id, subject, day, previous_day) do update set members = kept.members + excluded.members`;
}

const CHANGE_STATEMENTS = {
  user: changeStatement(USER_RETURNS),
  buyer: changeStatement(BUYER_RETURNS),
  session: changeStatement(SESSION_RETURNS),
};

/** An empty range of days. */
const NO_DAYS = { from: "1970-01-01", until: "1970-01-01" };

export async function changeReturns(
  tx: Transaction,
  tenantId: string,
  { subject }: Returns,
  { rows = [], days = NO_DAYS, direction }: FoldedChange,
): Promise<void> {
  await tx.unsafe(CHANGE_STATEMENTS[subject], [
    tenantId,
    days.from,
    days.until,
    tx.array(rows.map(({ day }) => day)) as never,
    tx.array(rows.map(({ member }) => member)) as never,
    direction === "in" ? 1 : -1,
  ]);
}

/** What the folded rows of a tenant say: the definition of the table. $1 tenant. */
function recounted({ table, member }: Returns): string {
  return `select day, previous_day, count(*) as members from (
      select day, coalesce(lag(day) over (partition by ${member} order by day), '-infinity') as previous_day
      from ${table} where tenant_id = $1 and folded
    ) visits group by day, previous_day
    union all
    select day, '${ALL_MEMBERS}', count(*) from ${table} where tenant_id = $1 and folded group by day`;
}

export interface ReturnsComparison {
  rows: number;
  differing: number;
  shown: {
    key: Record<string, string>;
    expected: Record<string, string> | null;
    actual: Record<string, string> | null;
  }[];
}

/**
 * Over all days, since a pair spans any two. Pairs that went down to zero stay in the table and
 * count as absent.
 */
export async function compareReturns(
  sql: Sql,
  tenantId: string,
  returns: Returns,
  limit: number,
): Promise<ReturnsComparison> {
  const side = (name: string) =>
    `case when ${name}.members is not null then jsonb_build_object('members', ${name}.members::text) end`;
  const statement = `with expected as (${recounted(returns)}), actual as (
      select day, previous_day, members from daily_return_stats
      where tenant_id = $1 and subject = '${returns.subject}' and members <> 0
    ), compared as (
      select expected.members is distinct from actual.members as differs,
        jsonb_build_object('subject', '${returns.subject}', 'day', day::text, 'previous_day', previous_day::text) as key,
        ${side("expected")} as expected, ${side("actual")} as actual
      from expected full join actual using (day, previous_day)
    )
    select count(*)::int as rows, count(*) filter (where differs)::int as differing,
      coalesce((select jsonb_agg(jsonb_build_object('key', key, 'expected', expected, 'actual', actual))
        from (select * from compared where differs order by key limit $2::int) shown), '[]') as shown
    from compared`;
  const [row] = await sql.unsafe<ReturnsComparison[]>(statement, [tenantId, limit]);
  return row ?? { rows: 0, differing: 0, shown: [] };
}

/** Replaces a tenant's pairs by what its folded rows say. */
export async function recountReturns(tx: Transaction, tenantId: string, returns: Returns): Promise<void> {
  await tx`delete from daily_return_stats where tenant_id = ${tenantId} and subject = ${returns.subject}`;
  await tx.unsafe(
    `insert into daily_return_stats (tenant_id, subject, day, previous_day, members)
     select $1, '${returns.subject}', day, previous_day, members from (${recounted(returns)}) recounted`,
    [tenantId],
  );
}

/** The next tenant, in the order of ids, with rows that are not folded. */
export async function selectUnfoldedTenant(
  sql: Sql,
  { table }: Returns,
  after: string | null,
): Promise<string | null> {
  const [row] = await sql<{ tenantId: string }[]>`
    select tenant_id as "tenantId" from ${sql(table)}
    where not folded ${after === null ? sql`` : sql`and tenant_id > ${after}`}
    order by tenant_id limit 1`;
  return row?.tenantId ?? null;
}
