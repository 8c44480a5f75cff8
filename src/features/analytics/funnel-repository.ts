import type { Fragment, Sql } from "../../db/client.ts";
import type { Range } from "./range.ts";

/**
 * Funnels over raw events. A chain begins with an event of the first step in the range. Each next
 * step is another event of its type, no earlier one, and within the window from the first. Columns
 * `s1`, `s2`, … are the latest beginnings of chains in which the row is the step of that number.
 * The latest beginning leaves the most time, so one pass over a user's rows finds the deepest
 * chain. Events of equal time count as in any order, since the last part of an id is random.
 */
interface Chains {
  /** Rows (user_key, ts, type) of the events that may take a step. */
  events: Fragment;
  /** The time of a row that may begin a chain, else null. */
  begun: Fragment;
  window: Fragment;
}

/** How many users got how far: a number a step. */
export async function selectFunnel(
  sql: Sql,
  tenantId: string,
  { from, to, timeZone }: Range,
  steps: readonly string[],
  windowHours: number,
): Promise<number[]> {
  const window = sql`${windowHours} * interval '1 hour'`;
  const begun = sql`case when (ts at time zone ${timeZone})::date between ${from}::date and ${to}::date then ts end`;
  const events = sql`
    select ts, type, coalesce(user_id, anonymous_id, session_id) collate "C" as user_key from events
    where tenant_id = ${tenantId} and voided_at is null and type = any(${sql.array([...new Set(steps)])}::text[])
      and ts >= ${from}::date::timestamp at time zone ${timeZone} - interval '1 day'
      and ts < ${to}::date::timestamp at time zone ${timeZone} + interval '2 days' + ${window}`;
  const repeats = new Set(steps).size < steps.length;
  const chained = (repeats ? chainMoments : chainEvents)(sql, steps, { events, begun, window });
  const reached = steps.map((_, index) => {
    const own = sql`count(*) filter (where ${sql(`s${index + 1}`)})::float8 as ${sql(`s${index + 1}`)}`;
    return index === 0 ? own : sql`, ${own}`;
  });
  const perUser = steps.map((_, index) => {
    const own = sql`bool_or(${sql(`s${index + 1}`)} is not null) as ${sql(`s${index + 1}`)}`;
    return index === 0 ? own : sql`, ${own}`;
  });
  const [row] = await sql<Record<string, number>[]>`
    select ${reached} from (select user_key, ${perUser} from (${chained}) chained group by user_key) users`;
  return steps.map((_, index) => row?.[`s${index + 1}`] ?? 0);
}

/**
 * For steps of different types. Of all orders of equal times, that of the steps is the best. A row
 * is one event, which takes one step at most.
 */
function chainEvents(sql: Sql, steps: readonly string[], { events, begun, window }: Chains): Fragment {
  const placed = sql`
    select user_key, ts, array_position(${sql.array([...steps])}::text[], type) as step from (${events}) stepping`;
  return steps.reduce<Fragment>((chained, _, index) => {
    const column = sql(`s${index + 1}`);
    if (index === 0)
      return sql`select *, case when step = 1 then ${begun} end as s1 from (${chained}) placed`;
    const before = sql(`before${index}`);
    return sql`
      select *, case when step = ${sql.unsafe(`${index + 1}`)} and ts <= ${before} + ${window} then ${before} end as ${column}
      from (
        select *, max(${sql(`s${index}`)}) over (
          partition by user_key order by ts, step rows between unbounded preceding and 1 preceding) as ${before}
        from (${chained}) reached
      ) preceded`;
  }, placed);
}

/**
 * For any steps. A row is a moment: a user's events of one instant, counted by type (`n0`, `n1`,
 * …). It can carry a chain on by several steps, each with an event of its own. It takes 40% longer,
 * so it is used only where a type repeats.
 */
function chainMoments(sql: Sql, steps: readonly string[], { events, begun, window }: Chains): Fragment {
  const types = [...new Set(steps)];
  const counts = types.map((type, n) => sql`, count(*) filter (where type = ${type}) as ${sql(`n${n}`)}`);
  const moments = sql`select user_key, ts ${counts} from (${events}) stepping group by user_key, ts`;
  /**
   * Whether the moment has an event for each step from `first` to `last`. The last is tested first,
   * since few have it.
   */
  const suffices = (first: number, last: number) => {
    const needed = Map.groupBy(steps.slice(first - 1, last).toReversed(), (type) => type);
    return [...needed].map(([type, own], index) => {
      const enough = sql`${sql(`n${types.indexOf(type)}`)} >= ${sql.unsafe(`${own.length}`)}`;
      return index === 0 ? enough : sql` and ${enough}`;
    });
  };
  return steps.reduce<Fragment>((chained, _, index) => {
    const step = index + 1;
    const preceded = sql`
      select *, max(${sql(`s${index}`)}) over (
        partition by user_key order by ts rows between unbounded preceding and 1 preceding) as ${sql(`before${index}`)}
      from (${chained}) reached`;
    const beginnings = Array.from({ length: step }, (_, taken) => {
      if (taken === 0) return sql`case when ${suffices(1, step)} then ${begun} end`;
      const before = sql(`before${taken}`);
      return sql`, case when ${suffices(taken + 1, step)} and ts <= ${before} + ${window} then ${before} end`;
    });
    return sql`
      select *, greatest(${beginnings}) as ${sql(`s${step}`)} from (${index === 0 ? chained : preceded}) opened`;
  }, moments);
}
