import { sha256 } from "../../core/ids.ts";
import { createCatalog } from "./catalog.ts";
import { createRandom } from "./random.ts";
import { planHours } from "./rhythm.ts";
import { playSession } from "./session.ts";
import { createVisitors, type Visitor } from "./visitors.ts";

export interface SeedOptions {
  seed: number;
  users: number;
  products: number;
  /** Exactly this many come out. */
  events: number;
  /** The days before `untilMs` (ms since the epoch) in which the events are; none is after it. */
  days: number;
  untilMs: number;
  /** IANA name; nights and weekends are those of this zone. */
  timeZone: string;
}

/** An event in the form in which clients send it. */
export interface SeedEvent {
  type: string;
  messageId: string;
  productId?: string;
  userId?: string;
  anonymousId?: string;
  sessionId: string;
  /** Epoch milliseconds. */
  timestamp: number;
  properties: Record<string, unknown>;
}

const SESSION_STREAM = 2;
const MESSAGE_HASH_DIGITS = 16;

/**
 * A shop's made-up traffic: the same options give the same events with the same message ids, so
 * storing them twice changes nothing. It is made hour by hour in constant memory. Sessions of an
 * hour may end in the next one, and a refund follows its session at once although its time is days
 * later.
 */
export function* generateEvents(options: SeedOptions): Generator<SeedEvent> {
  const { seed, users, products, events, days, untilMs, timeZone } = options;
  const random = createRandom(seed, SESSION_STREAM);
  const catalog = createCatalog(seed, products);
  const visitors = createVisitors(seed, users);
  const run = sha256(JSON.stringify([seed, users, products, events, days, untilMs, timeZone])).slice(
    0,
    MESSAGE_HASH_DIGITS,
  );
  let made = 0;
  let due = 0;
  let sessions = 0;

  function* session(startMs: number): Generator<SeedEvent> {
    const visitor = visitors.draw(random);
    const steps = playSession(random, catalog, visitor);
    sessions += 1;
    const sessionId = `s-${run.slice(0, 6)}-${sessions}`;
    const visitMs = Math.max(...steps.map(({ type, afterMs }) => (type === "refund" ? 0 : afterMs)));
    // A visit that would still go on at the end has begun that much earlier.
    const shiftedMs = Math.min(startMs, untilMs - visitMs);
    for (const { type, productId, afterMs, properties } of steps) {
      const timestamp = shiftedMs + afterMs;
      if (timestamp > untilMs || made >= events) continue;
      made += 1;
      yield {
        type,
        messageId: `seed:${run}:${made}`,
        productId,
        ...identityOf(visitor),
        sessionId,
        timestamp,
        properties: { ...visitor.properties, ...properties },
      };
    }
  }

  for (const slot of planHours({ events, days, untilMs, timeZone })) {
    due += slot.events;
    while (made < due) yield* session(random.between(slot.startMs, slot.endMs - 1));
  }
}

function identityOf({ userId, anonymousId }: Visitor) {
  return userId === undefined ? { anonymousId } : { userId };
}
