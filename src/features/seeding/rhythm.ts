/** How busy a shop is, hour by hour of the visitors' day and day by day of their week. */
const HOUR_WEIGHTS = [
  14, 8, 5, 4, 4, 7, 16, 30, 42, 50, 55, 58, 62, 58, 55, 56, 60, 68, 80, 95, 100, 92, 66, 34,
] as const;
/** Sunday first. */
const WEEKDAY_WEIGHTS = [118, 92, 88, 90, 94, 100, 126] as const;
/** Trade grows over the whole time by this share. */
const GROWTH = 0.15;

const HOUR_MS = 3_600_000;

export interface Slot {
  startMs: number;
  endMs: number;
  /** How many events fall into this slot. */
  events: number;
}

export interface RhythmOptions {
  events: number;
  days: number;
  /** End of the last slot, in ms. */
  untilMs: number;
  timeZone: string;
}

/**
 * The hours of the days up to `untilMs`, with `events` spread over them; they add up to exactly
 * `events`.
 */
export function* planHours({ events, days, untilMs, timeZone }: RhythmOptions): Generator<Slot> {
  const hours = days * 24;
  const startMs = untilMs - hours * HOUR_MS;
  const weightOf = createHourWeight(timeZone);
  const weigh = (hour: number) => weightOf(startMs + (hour + 0.5) * HOUR_MS) * (1 + (GROWTH * hour) / hours);

  let total = 0;
  for (let hour = 0; hour < hours; hour += 1) total += weigh(hour);
  let weighed = 0;
  let planned = 0;
  for (let hour = 0; hour < hours; hour += 1) {
    weighed += weigh(hour);
    // The last sum may miss the total by a rounding error.
    const due = hour === hours - 1 ? events : Math.floor((weighed / total) * events);
    const slotMs = startMs + hour * HOUR_MS;
    yield { startMs: slotMs, endMs: slotMs + HOUR_MS, events: due - planned };
    planned = due;
  }
}

function createHourWeight(timeZone: string): (timeMs: number) => number {
  const local = new Intl.DateTimeFormat("en-US", {
    timeZone,
    weekday: "short",
    hour: "numeric",
    hourCycle: "h23",
  });
  const weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  return (timeMs) => {
    const parts = local.formatToParts(timeMs);
    const part = (type: string) => parts.find((one) => one.type === type)?.value ?? "";
    const hour = HOUR_WEIGHTS[Number(part("hour"))] ?? 0;
    return hour * (WEEKDAY_WEIGHTS[weekdays.indexOf(part("weekday"))] ?? 0);
  };
}
