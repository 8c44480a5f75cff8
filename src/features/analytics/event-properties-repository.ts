import type { Sql } from "../../db/client.ts";

export interface SampleRow {
  name: string;
  seen: number;
  types: ("string" | "number" | "boolean" | "object" | "array")[];
  topValues: { value: string; events: number }[];
}

export interface Sample {
  events: number;
  from: string | null;
  to: string | null;
  rows: SampleRow[];
}

/**
 * What the newest events of a tenant carry, the most frequent names first. As in the rollup, an
 * event's own properties win over its context. Only values that a breakdown counts are among the
 * most frequent ones.
 */
export async function selectSample(
  sql: Sql,
  tenantId: string,
  limits: { events: number; names: number; values: number; characters: number },
): Promise<Sample> {
  const [row] = await sql<Sample[]>`
    with sampled as materialized (
      select ts, coalesce(context, '{}') || jsonb_strip_nulls(coalesce(properties, '{}')) as carried from events
      where tenant_id = ${tenantId} and voided_at is null order by ts desc, id desc limit ${limits.events}
    ), carried as materialized (
      select key as name, jsonb_typeof(value) as type,
        case when jsonb_typeof(value) in ('string', 'number', 'boolean') then left(value #>> '{}', ${limits.characters}) end as value
      from sampled cross join lateral jsonb_each(carried) where jsonb_typeof(carried) = 'object' and value <> 'null'
    ), named as materialized (
      select name, count(*) as seen, array_agg(distinct type order by type) as types from carried
      group by name order by seen desc, name collate "C" limit ${limits.names}
    ), valued as (
      select name, value, count(*) as events,
        row_number() over (partition by name order by count(*) desc, value collate "C") as place
      from carried join named using (name) where value is not null group by name, value
    ), best as (
      select name, jsonb_agg(jsonb_build_object('value', value, 'events', events) order by place) as values
      from valued where place <= ${limits.values} group by name
    )
    select (select count(*)::int from sampled) as events,
      (select to_char(min(ts) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') from sampled) as from,
      (select to_char(max(ts) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') from sampled) as to,
      coalesce((select jsonb_agg(jsonb_build_object('name', name, 'seen', seen, 'types', types,
        'topValues', coalesce(best.values, '[]')) order by seen desc, name collate "C")
        from named left join best using (name)), '[]') as rows`;
  return row ?? { events: 0, from: null, to: null, rows: [] };
}
