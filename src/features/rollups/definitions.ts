/**
 * The rollups, each defined once: how it is computed from facts. The same text rolls a batch up,
 * recounts a day for `verify` and fills it for `rebuild`. So they can be compared to the row (G2,
 * G4).
 */
export interface Rollup {
  table: string;
  /** Primary key, in the order in which rows are upserted: workers that meet never deadlock. */
  keys: readonly string[];
  measures: readonly string[];
  /**
   * The column of time, by which a range of the table is chosen; `start` for periods, which are of
   * whole months.
   */
  bucket: "day" | "hour" | "start";
  /**
   * A select over `facts`, or over the CTEs that `factsFrom` makes of them, giving keys and
   * measures.
   */
  aggregate: string;
}

const PRODUCT_MEASURES = [
  "events",
  "views",
  "clicks",
  "add_to_carts",
  "remove_from_carts",
  "checkout_starts",
  "purchases",
  "units",
  "revenue",
] as const;

/**
 * The product measures of `facts`-like rows by `keys`. Grouping by type first and turning types to
 * columns afterwards makes three sums an event instead of nine conditional ones, which took an
 * eighth off the statement.
 */
function sumByType(keys: string, rows: string): string {
  const ofType = (type: string) => `coalesce(sum(events) filter (where type = '${type}'), 0)::bigint`;
  return `select ${keys}, sum(events)::bigint as events, ${ofType("view")} as views, ${ofType("click")} as clicks,
      ${ofType("add_to_cart")} as add_to_carts, ${ofType("remove_from_cart")} as remove_from_carts,
      ${ofType("checkout_start")} as checkout_starts, ${ofType("purchase")} as purchases,
      sum(units)::bigint as units, sum(revenue) as revenue
    from (select ${keys}, type, ${TYPE_SUMS} from ${rows} group by ${keys}, type offset 0) as by_type group by ${keys}`;
}

/** Units and revenue are null where there is no sale: a null costs nothing to add. */
const TYPE_SUMS =
  "count(*) as events, coalesce(sum(units), 0)::bigint as units, coalesce(sum(revenue), 0) as revenue";

/** By hour and by day from one pass over the facts: `typed` has a row an hour and type. */
function sumTyped(bucket: Rollup["bucket"]): string {
  return `select tenant_id, ${bucket}, type, sum(events)::bigint as events, sum(units)::bigint as units, sum(revenue) as revenue
    from typed group by tenant_id, ${bucket}, type`;
}

/**
 * Longer property values share a row by their beginning, so that the key stays below an index row's
 * limit.
 */
const MAX_VALUE_CHARACTERS = 256;

/**
 * The rollup by user: linking a session changes this one and, for purchases, that of buyers; no
 * other.
 */
export const USER_DAILY: Rollup = {
  table: "user_daily_stats",
  keys: ["tenant_id", "day", "user_key"],
  measures: PRODUCT_MEASURES,
  bucket: "day",
  aggregate: sumByType("tenant_id, day, user_key", "facts"),
};

/** Days on which users bought something: those of `user_daily_stats` with purchases. */
export const BUYER_DAILY: Rollup = {
  table: "buyer_daily_stats",
  keys: ["tenant_id", "day", "user_key"],
  measures: ["purchases"],
  bucket: "day",
  aggregate: `select tenant_id, day, user_key, count(*) as purchases
    from facts where type = 'purchase' group by tenant_id, day, user_key`,
};

const PRODUCT_DAYS = sumByType("tenant_id, day, product_id", "facts where product_id is not null");

export const PRODUCT_DAILY: Rollup = {
  table: "product_daily_stats",
  keys: ["tenant_id", "day", "product_id"],
  measures: PRODUCT_MEASURES,
  bucket: "day",
  aggregate: "select * from product_days",
};

/**
 * Product days added up by month and by sixth of a month (from its 1st, 6th, 11th, 16th, 21st and
 * 26th). Ranges are put together from them: analytics/cover.ts. Months hold whole periods, since
 * everything is recounted by month.
 */
export const PRODUCT_PERIODS: Rollup = {
  table: "product_period_stats",
  keys: ["tenant_id", "period", "start", "product_id"],
  measures: PRODUCT_MEASURES,
  bucket: "start",
  aggregate: `select tenant_id, period, start, product_id,
      ${PRODUCT_MEASURES.map((measure) => `sum(${measure})${measure === "revenue" ? "" : "::bigint"} as ${measure}`).join(", ")}
    from (
      select product_days.*, date_trunc('month', day)::date as month, least((extract(day from day)::int - 1) / 5, 5) * 5 as past
      from product_days
    ) as placed cross join lateral (values ('month', month), ('sixth', month + past)) as containing(period, start)
    group by tenant_id, period, start, product_id`,
};

/** Values of the properties that tenants break down by; objects and lists are none. */
export const PROPERTY_DAILY: Rollup = {
  table: "property_daily_stats",
  keys: ["tenant_id", "property", "day", "value"],
  measures: PRODUCT_MEASURES,
  bucket: "day",
  // Reading the text, and its type only where it looks like a list or object, takes half the time
  // of jsonb_typeof for every property of every event.
  aggregate: sumByType(
    "tenant_id, property, day, value",
    `(
      select tenant_id, property, day, left(value, ${MAX_VALUE_CHARACTERS}) as value, type, units, revenue
      from described
      where value is not null and (left(value, 1) not in ('{', '[')
        or jsonb_typeof(coalesce(properties -> property, context -> property)) = 'string')
    ) as valued`,
  ),
};

export const ROLLUPS: readonly Rollup[] = [
  PRODUCT_DAILY,
  PRODUCT_PERIODS,
  // Upserted after the users, as a link writes them: Postgres runs these last to first.
  BUYER_DAILY,
  USER_DAILY,
  {
    table: "session_daily_stats",
    keys: ["tenant_id", "day", "session_id"],
    measures: ["events"],
    bucket: "day",
    aggregate: `select tenant_id, day, session_id, count(*) as events
      from facts where session_id is not null group by tenant_id, day, session_id`,
  },
  {
    table: "event_hourly_stats",
    keys: ["tenant_id", "hour", "type"],
    measures: ["events", "units", "revenue"],
    bucket: "hour",
    aggregate: sumTyped("hour"),
  },
  {
    table: "event_daily_stats",
    keys: ["tenant_id", "day", "type"],
    measures: ["events", "units", "revenue"],
    bucket: "day",
    aggregate: sumTyped("day"),
  },
  PROPERTY_DAILY,
];

/**
 * What an event `e` counts in units and in money; null for what is no sale. A refund takes away; an
 * adjustment is money alone. Events from before today's bounds and signs keep what they counted
 * then.
 */
export const SALE_UNITS = "case e.type when 'purchase' then e.quantity when 'refund' then -e.quantity end";
export const SALE_REVENUE = `case e.type when 'purchase' then 1 when 'refund' then -1 when 'adjustment' then 1 end
        * coalesce(e.amount, e.quantity * e.unit_price)`;

/**
 * What `facts` reads of an event `e`, except its user and its mark: for statements that change one
 * of these two.
 */
export const UNOWNED_COLUMNS = `e.tenant_id, e.ts, e.type, e.product_id, e.anonymous_id, e.session_id, e.quantity,
  e.unit_price, e.amount, e.properties, e.context`;
/** For the source of facts about an event that counts now, or did until now. */
export const NOT_VOIDED = "null::timestamptz as voided_at";

/** Which properties are counted of which facts. */
export interface PropertyScope {
  /**
   * A select of tenants `tenant_id` and properties `property`, given a condition on the tenants `t`
   * concerned.
   */
  dimension(tenants: string): string;
  /** More columns of the events `e` in `facts`, for `counted`. */
  columns?: string;
  /** A condition on `dimension` and `facts`. */
  counted?: string;
}

/** Those that a tenant has chosen, of all facts. */
const CHOSEN: PropertyScope = {
  dimension: (tenants) =>
    `select t.id as tenant_id, property from tenants t cross join unnest(t.breakdown_properties) as property where ${tenants}`,
};

/**
 * What the rollups count by now: of a property that is being filled, the events up to its place,
 * and those of batches that counted it themselves. Events `e` have the `properties_version` of
 * their ledger row, null for none. A caller that takes events out by it holds `lockProperties`, so
 * that no fill moves on meanwhile.
 */
export const COUNTED_BY_NOW: PropertyScope = {
  dimension: (tenants) => `select t.id as tenant_id, chosen.property, fill.version, fill.upto_ts, fill.upto_id
    from tenants t cross join unnest(t.breakdown_properties) as chosen(property)
      left join property_fills fill on fill.tenant_id = t.id and fill.property = chosen.property
    where ${tenants}`,
  columns: ", e.ts, e.id, e.properties_version",
  counted: `dimension.version is null or facts.properties_version >= dimension.version
    or (facts.ts, facts.id) <= (dimension.upto_ts, dimension.upto_id)`,
};

/**
 * The CTEs that every aggregate reads. `facts` comes from `source`, which must offer events `e` and
 * tenants `t`: an event with its local day and hour, its unique user, and its units and money. A
 * voided event is no fact. `typed` sums facts by hour and type, `product_days` by day and product.
 * `described` has a row a fact and property; the event's own properties win over its context.
 * `tenants` is a condition on the tenants `t`.
 */
export function factsFrom(
  source: string,
  tenants: string,
  condition = "true",
  { dimension, columns = "", counted = "true" }: PropertyScope = CHOSEN,
): string {
  // The `offset 0` keeps Postgres from computing the text of a property once a mention.
  return `dimension as materialized (
    ${dimension(tenants)}
  ), facts as materialized (
    select e.tenant_id, (e.ts at time zone t.time_zone)::date as day, date_trunc('hour', e.ts, t.time_zone) as hour,
      e.type, e.product_id, coalesce(e.user_id, e.anonymous_id, e.session_id) as user_key, e.session_id,
      ${SALE_UNITS} as units, ${SALE_REVENUE} as revenue, e.properties, e.context ${columns}
    from ${source}
    where e.voided_at is null and ${condition}
  ), typed as (
    select tenant_id, day, hour, type, ${TYPE_SUMS} from facts group by tenant_id, day, hour, type
  ), product_days as (
    ${PRODUCT_DAYS}
  ), described as (
    select facts.*, property, coalesce(properties ->> property, context ->> property) as value
    from dimension join facts using (tenant_id) where ${counted} offset 0
  )`;
}

/**
 * Adds the aggregate, or other rows of keys and measures, to the rows of the table, in key order.
 */
export function upsert({ table, keys, measures, aggregate }: Rollup, rows = aggregate): string {
  const added = measures.map((measure) => `${measure} = kept.${measure} + excluded.${measure}`);
  const columns = [...keys, ...measures].join(", ");
  // `offset 0` keeps the sort above the grouping: Postgres then hashes the facts and sorts only the
  // groups.
  return `insert into ${table} as kept (${columns})
    select ${columns} from (${rows} offset 0) grouped order by ${keys.join(", ")}
    on conflict (${keys.join(", ")}) do update set ${added.join(", ")}`;
}
