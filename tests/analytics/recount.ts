/**
 * More analytics the slow and obvious way, over the raw events one by one. Shares no code with what
 * it checks.
 */
import * as brute from "../worker/brute-force.ts";

type Events = readonly brute.RawEvent[];
const HOUR_MS = 3_600_000;

export const inOrder = (events: Events) =>
  events.toSorted((a, b) => a.tsMs - b.tsMs || (a.id < b.id ? -1 : 1));

const byUser = (events: Events) => Map.groupBy(inOrder(events), ({ userKey }) => userKey);

/**
 * From every possible beginning, the earliest next step each time, by another event. A user's
 * deepest chain counts.
 */
export function funnel(
  events: Events,
  steps: readonly string[],
  windowHours: number,
  from: string,
  to: string,
  zone: string,
) {
  const reached = steps.map(() => 0);
  for (const own of byUser(events).values()) {
    let deepest = 0;
    for (const first of own) {
      const day = brute.dayOf(first.tsMs, zone);
      if (first.type !== steps[0] || day < from || day > to) continue;
      const untilMs = first.tsMs + windowHours * HOUR_MS;
      const chain = [first];
      for (let last: brute.RawEvent | undefined = first; last && chain.length < steps.length; ) {
        const tsMs: number = last.tsMs;
        const type = steps[chain.length];
        last = own.find((event) => event.type === type && event.tsMs >= tsMs && !chain.includes(event));
        if (last && last.tsMs > untilMs) last = undefined;
        if (last) chain.push(last);
      }
      deepest = Math.max(deepest, chain.length);
    }
    for (let step = 0; step < deepest; step += 1) reached[step] = (reached[step] ?? 0) + 1;
  }
  return steps.map((type, index) => {
    const users = reached[index] ?? 0;
    const before = index === 0 ? users : (reached[index - 1] ?? 0);
    const first = reached[0] ?? 0;
    return {
      type,
      users,
      rate: first === 0 ? 0 : users / first,
      dropOff: before === 0 ? 0 : (before - users) / before,
    };
  });
}

type Period = "day" | "week" | "month";

export function retention(events: Events, from: string, to: string, zone: string, period: Period) {
  const periodOf = (day: string) => brute.bucketOf(Date.parse(`${day}T12:00:00Z`), "UTC", period);
  const begin = periodOf(from);
  const starts = brute.bucketsOf(begin, to, "UTC", period);
  const cohorts = new Map(starts.map((start) => [start, new Map<string, Set<string>>()]));
  for (const [user, own] of byUser(events)) {
    const days = own.map(({ tsMs }) => brute.dayOf(tsMs, zone));
    const first = days.toSorted()[0] ?? "";
    if (first < begin || first > to) continue;
    for (const day of days.filter((one) => one <= to)) {
      const seen = cohorts.get(periodOf(first));
      seen?.set(periodOf(day), (seen.get(periodOf(day)) ?? new Set()).add(user));
    }
  }
  return starts.map((cohort, first) => {
    const users = cohorts.get(cohort)?.get(cohort)?.size ?? 0;
    const periods = starts.slice(first).map((start, offset) => {
      const back = cohorts.get(cohort)?.get(start)?.size ?? 0;
      return { offset, users: back, rate: users === 0 ? 0 : back / users };
    });
    return { cohort, users, periods };
  });
}

export interface CatalogueRow {
  id: string;
  name: string;
  sku: string | null;
  price: number;
  status: string;
}

export function productStats(events: Events, catalogue: readonly CatalogueRow[]) {
  const groups = Map.groupBy(
    events.filter(({ productId }) => productId !== null),
    ({ productId }) => productId ?? "",
  );
  const rows = catalogue
    .filter(({ id, status }) => status !== "deleted" || groups.has(id))
    .map(({ id, ...row }) => ({ productId: id, ...row }));
  const known = new Set(catalogue.map(({ id }) => id));
  const unknown = [...groups.keys()]
    .filter((id) => !known.has(id))
    .map((productId) => ({ productId, name: null, sku: null, price: null, status: "unknown" }));
  return [...rows, ...unknown].map((row) => {
    const own = groups.get(row.productId) ?? [];
    return { ...row, events: own.length, ...brute.measure(own) };
  });
}

/** The value of a dimension of an event; undefined where it has none. */
export function dimensionOf(event: brute.RawEvent, dimension: string, zone: string, property = ""): unknown {
  switch (dimension) {
    case "type":
      return event.type;
    case "product":
      return event.productId ?? undefined;
    case "user":
      return event.userKey;
    case "property": {
      const value = event.properties?.[property] ?? event.context?.[property];
      return ["string", "number", "boolean"].includes(typeof value) ? String(value) : undefined;
    }
    default:
      return brute.bucketOf(event.tsMs, zone, dimension as brute.Granularity);
  }
}

export function metricsOf(events: Events, zone: string): Record<string, number> {
  return {
    events: events.length,
    ...brute.measure(events),
    ...brute.users(events),
    sessions: new Set(events.flatMap(({ sessionId }) => sessionId ?? [])).size,
    activeDays: new Set(events.map(({ tsMs }) => brute.dayOf(tsMs, zone))).size,
  };
}

/** Rows by dimensions, in the order of the dimensions' bytes. */
export function groupBy(
  events: Events,
  dimensions: readonly string[],
  zone: string,
  property?: string,
): { key: Record<string, string>; events: brute.RawEvent[] }[] {
  const groups = new Map<string, brute.RawEvent[]>();
  for (const event of events) {
    const values = dimensions.map((dimension) => dimensionOf(event, dimension, zone, property));
    if (values.includes(undefined)) continue;
    const name = JSON.stringify(values);
    groups.set(name, [...(groups.get(name) ?? []), event]);
  }
  return [...groups].map(([name, own]) => {
    const values = JSON.parse(name) as string[];
    return {
      key: Object.fromEntries(dimensions.map((dimension, index) => [dimension, values[index] ?? ""])),
      events: own,
    };
  });
}
