/**
 * Analytics the slow and obvious way: over the raw events one by one, with days and hours by Intl.
 * Shares no code with what it checks.
 */
export interface RawEvent {
  id: string;
  tsMs: number;
  type: string;
  productId: string | null;
  userKey: string;
  sessionId: string | null;
  quantity: number | null;
  /** Exact decimal text. */
  unitPrice: string | null;
  /** Of the whole line, where it is not quantity times unitPrice. */
  amount: string | null;
  properties: Record<string, unknown> | null;
  context: Record<string, unknown> | null;
}

export interface Measured {
  views: number;
  clicks: number;
  addToCarts: number;
  removeFromCarts: number;
  checkoutStarts: number;
  purchases: number;
  units: number;
  revenue: number;
  conversionRate: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const formats = new Map<string, Intl.DateTimeFormat>();

/** `YYYY-MM-DD HH:MM:SS` on a clock in that zone. */
function clock(tsMs: number, zone: string): string {
  let format = formats.get(zone);
  if (!format) {
    const parts = { year: "numeric", month: "2-digit", day: "2-digit" } as const;
    const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
    format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, ...parts, ...time });
    formats.set(zone, format);
  }
  return format.format(tsMs);
}

export const dayOf = (tsMs: number, zone: string) => clock(tsMs, zone).slice(0, 10);

export type Granularity = "hour" | "day" | "week" | "month";

export function bucketOf(tsMs: number, zone: string, granularity: Granularity): string {
  if (granularity === "hour") {
    const [, minutes, seconds] = clock(tsMs, zone).slice(11).split(":").map(Number);
    const past = ((minutes ?? 0) * 60 + (seconds ?? 0)) * 1000 + (((tsMs % 1000) + 1000) % 1000);
    return new Date(tsMs - past).toISOString();
  }
  const day = dayOf(tsMs, zone);
  if (granularity === "day") return day;
  if (granularity === "month") return `${day.slice(0, 7)}-01`;
  const weekday = (new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7;
  return new Date(Date.parse(`${day}T00:00:00Z`) - weekday * DAY_MS).toISOString().slice(0, 10);
}

/** Every bucket that touches the days, found in steps of a quarter of an hour. */
export function bucketsOf(from: string, to: string, zone: string, granularity: Granularity): string[] {
  const found = new Set<string>();
  const end = Date.parse(`${to}T00:00:00Z`) + 2 * DAY_MS;
  for (let at = Date.parse(`${from}T00:00:00Z`) - DAY_MS; at < end; at += HOUR_MS / 4) {
    const day = dayOf(at, zone);
    if (day >= from && day <= to) found.add(bucketOf(at, zone, granularity));
  }
  return [...found];
}

export function within(events: readonly RawEvent[], from: string, to: string, zone: string): RawEvent[] {
  return events.filter(({ tsMs }) => {
    const day = dayOf(tsMs, zone);
    return day >= from && day <= to;
  });
}

export function measure(events: readonly RawEvent[]): Measured {
  const count = (type: string) => events.filter((event) => event.type === type).length;
  let units = 0;
  let tenThousandths = 0n;
  for (const { type, quantity, unitPrice, amount } of events) {
    if (type !== "purchase" && type !== "refund" && type !== "adjustment") continue;
    const sign = type === "refund" ? -1 : 1;
    if (type !== "adjustment") units += sign * (quantity ?? 0);
    const line = amount === null ? BigInt(quantity ?? 0) * exact(unitPrice ?? "0") : exact(amount);
    tenThousandths += BigInt(sign) * line;
  }
  const [views, purchases] = [count("view"), count("purchase")];
  return {
    views,
    clicks: count("click"),
    addToCarts: count("add_to_cart"),
    removeFromCarts: count("remove_from_cart"),
    checkoutStarts: count("checkout_start"),
    purchases,
    units,
    revenue: Number(tenThousandths) / 10_000,
    conversionRate: views === 0 ? 0 : purchases / views,
  };
}

function exact(decimal: string): bigint {
  const negative = decimal.startsWith("-");
  const [whole = "0", fraction = ""] = decimal.replace("-", "").split(".");
  const value = BigInt(whole) * 10_000n + BigInt(fraction.padEnd(4, "0"));
  return negative ? -value : value;
}

export function topProducts(events: readonly RawEvent[], sortBy: keyof Measured, limit: number) {
  const groups = Map.groupBy(
    events.filter(({ productId }) => productId !== null),
    ({ productId }) => productId ?? "",
  );
  return [...groups]
    .map(([productId, ofProduct]) => ({ productId, name: null, ...measure(ofProduct) }))
    .sort((a, b) => b[sortBy] - a[sortBy] || (a.productId < b.productId ? -1 : 1))
    .slice(0, limit);
}

export function breakdown(events: readonly RawEvent[], property: string, limit: number) {
  const valueIn = ({ properties, context }: RawEvent) => properties?.[property] ?? context?.[property];
  const groups = Map.groupBy(
    events.filter((event) => ["string", "number", "boolean"].includes(typeof valueIn(event))),
    (event) => String(valueIn(event)),
  );
  return [...groups]
    .map(([value, ofValue]) => ({ value, events: ofValue.length, ...measure(ofValue) }))
    .sort((a, b) => b.events - a.events || (a.value < b.value ? -1 : 1))
    .slice(0, limit);
}

/** Whether an answer shows a conversion over 100%, which it must then say. */
export function convertsOverOne(answer: unknown): boolean {
  return [...JSON.stringify(answer).matchAll(/"conversionRate":([^,}]+)/g)].some(
    ([, rate]) => Number(rate) > 1,
  );
}

export function users(events: readonly RawEvent[]) {
  const distinct = (own: readonly RawEvent[]) => new Set(own.map(({ userKey }) => userKey)).size;
  const uniqueUsers = distinct(events);
  const buyers = distinct(events.filter(({ type }) => type === "purchase"));
  return { uniqueUsers, buyers, purchaseRate: uniqueUsers === 0 ? 0 : buyers / uniqueUsers };
}

export function summary(
  events: readonly RawEvent[],
  from: string,
  to: string,
  zone: string,
  granularity: Granularity,
  ownZone = zone,
) {
  const unknown = granularity === "hour" || zone !== ownZone;
  const groups = Map.groupBy(events, ({ tsMs }) => bucketOf(tsMs, zone, granularity));
  const types = Map.groupBy(events, ({ type }) => type);
  return {
    totals: {
      events: events.length,
      ...users(events),
      sessions: new Set(events.flatMap(({ sessionId }) => sessionId ?? [])).size,
      ...measure(events),
    },
    byType: [...types]
      .map(([type, ofType]) => ({ type, events: ofType.length }))
      .sort((a, b) => b.events - a.events || (a.type < b.type ? -1 : 1)),
    series: bucketsOf(from, to, zone, granularity).map((bucket) => {
      const inBucket = groups.get(bucket) ?? [];
      const own = unknown ? { uniqueUsers: null, buyers: null, purchaseRate: null } : users(inBucket);
      return { bucket, events: inBucket.length, ...own, ...measure(inBucket) };
    }),
  };
}

/** A small deterministic generator (mulberry32), so that a failure can be repeated. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
