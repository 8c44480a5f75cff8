import type { Random } from "../../src/features/seeding/random.ts";
import type { TestTenant } from "../factories.ts";

/**
 * Clients that send load during the faults, and remember what was acknowledged. `keyed` clients
 * send events with messageIds, one or many at a time, and repeat a request until it is
 * acknowledged, as the SDKs do. `blind` clients send once, without messageIds. `readers` ask for
 * analytics.
 */
export interface TrafficOptions {
  /**
   * Of one or more servers. Clients take turns, and go to the next when a connection is refused.
   */
  urls: readonly string[];
  tenants: readonly TestTenant[];
  rngOf(stream: number): Random;
  /** Begins every messageId; another one for each traffic on the same tenants. */
  name?: string;
  keyed?: number;
  blind?: number;
  readers?: number;
  /** Longest pause of a client between two requests. */
  pauseMs?: number;
}

export interface Attempt {
  kind: "keyed" | "blind" | "read";
  startedAtMs: number;
  durationMs: number;
  /** Null: no answer, the connection was refused or lost, or nothing came within 20 s. */
  status: number | null;
  retryAfter: string | null;
  failure: string;
}

/** What one tenant was promised. */
export interface Promised {
  tenant: TestTenant;
  /** messageId -> the id of the acknowledgement; null for bulk, whose answer has no ids. */
  messages: Map<string, string | null>;
  /** Ids of single events without messageId that were acknowledged. */
  blindIds: string[];
  /** All requests without messageIds, by the sessionId that their events share and no others. */
  blindRequests: Map<string, { events: number; acknowledged: boolean }>;
}

export interface Traffic {
  promised: Promised[];
  attempts: Attempt[];
  acknowledgedEvents(): number;
  /**
   * Events that were stored by a try without an answer: the server recognised them in the retry.
   */
  duplicates(): number;
  /**
   * No new requests. Resolves when every keyed one is acknowledged; throws when one is not within a
   * minute.
   */
  stop(): Promise<void>;
}

const TYPES = [
  "view",
  "view",
  "view",
  "click",
  "add_to_cart",
  "remove_from_cart",
  "purchase",
  "refund",
  "search",
];
const DAY_MS = 86_400_000;
const GIVE_UP_MS = 60_000;
const REQUEST_TIMEOUT_MS = 20_000;
const MAX_BULK = 40;

export function startTraffic(options: TrafficOptions): Traffic {
  const { tenants, rngOf, name: prefix = "", keyed = 8, blind = 4, readers = 1, pauseMs = 80 } = options;
  const attempts: Attempt[] = [];
  const promised: Promised[] = tenants.map((tenant) => ({
    tenant,
    messages: new Map(),
    blindIds: [],
    blindRequests: new Map(),
  }));
  let running = true;
  let duplicates = 0;
  let acknowledged = 0;

  /** One try, at the first server that listens. Null when it was not answered. */
  async function attempt(
    kind: Attempt["kind"],
    key: string,
    path: string,
    body?: unknown,
    urls = rotated(options.urls, attempts.length),
  ): Promise<{ status: number; text: string } | null> {
    const [url, ...others] = urls;
    const startedAtMs = Date.now();
    const started = performance.now();
    const note = (status: number | null, retryAfter: string | null, failure = "") =>
      void attempts.push({
        kind,
        startedAtMs,
        durationMs: performance.now() - started,
        status,
        retryAfter,
        failure,
      });
    try {
      const response = await fetch(url + path, {
        method: body === undefined ? "GET" : "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
        // fetch repeats a request by itself on a kept connection that dies. A blind client must not
        // do that.
        keepalive: kind !== "blind",
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      const text = await response.text();
      note(response.status, response.headers.get("retry-after"), response.status < 400 ? "" : text);
      return { status: response.status, text };
    } catch (error) {
      const refused = String(error).includes("ECONNREFUSED");
      if (refused && others.length > 0) return attempt(kind, key, path, body, others);
      note(null, null, String(error));
      return null;
    }
  }

  /** Repeats a request until it is acknowledged, and returns the acknowledgement. */
  async function untilAcknowledged(random: Random, key: string, path: string, body: unknown) {
    for (const deadline = Date.now() + GIVE_UP_MS; Date.now() < deadline; ) {
      const answer = await attempt("keyed", key, path, body);
      if (answer?.status === 202) return JSON.parse(answer.text);
      if (answer && answer.status < 500) throw new Error(`${path} answered ${answer.status}: ${answer.text}`);
      await Bun.sleep(random.between(10, 80));
    }
    throw new Error(`${path} was not acknowledged within ${GIVE_UP_MS} ms`);
  }

  async function sendKeyed(random: Random, promise: Promised, name: string): Promise<void> {
    const { tenant, messages } = promise;
    if (random.chance(0.7)) {
      const event = { ...makeEvent(random), messageId: name };
      const answer = await untilAcknowledged(random, tenant.key, "/events", event);
      messages.set(name, answer.id);
      // Only a retry can be one: nobody else uses this messageId, or not before it is acknowledged.
      if (answer.duplicate) duplicates += 1;
      else acknowledged += 1;
      return;
    }
    const events = Array.from({ length: random.between(2, MAX_BULK) }, (_, n) => ({
      ...makeEvent(random),
      messageId: `${name}.${n}`,
    }));
    // An SDK that lost its answer before a restart sends an old message again, inside a new
    // request.
    const old = messages.size > 0 && random.chance(0.3) ? `${name.split("-")[0]}-0` : null;
    const repeats = old !== null && messages.has(old);
    if (repeats) events.push({ ...makeEvent(random), messageId: old });
    const answer = await untilAcknowledged(random, tenant.key, "/events/bulk", { events });
    for (const { messageId } of events) if (!messages.has(messageId)) messages.set(messageId, null);
    duplicates += answer.duplicates - (repeats ? 1 : 0);
    acknowledged += answer.inserted;
  }

  async function sendBlind(random: Random, promise: Promised, name: string): Promise<void> {
    const { tenant, blindIds, blindRequests } = promise;
    const single = random.chance(0.7);
    const events = Array.from({ length: single ? 1 : random.between(2, MAX_BULK) }, () => ({
      ...makeEvent(random),
      sessionId: name,
    }));
    const request = { events: events.length, acknowledged: false };
    blindRequests.set(name, request);
    const answer = single
      ? await attempt("blind", tenant.key, "/events", events[0])
      : await attempt("blind", tenant.key, "/events/bulk", { events });
    if (answer?.status !== 202) return;
    if (single) blindIds.push(JSON.parse(answer.text).id);
    request.acknowledged = true;
    acknowledged += events.length;
  }

  async function read(random: Random, { tenant }: Promised): Promise<void> {
    const path = random.chance(0.5) ? "/analytics/summary?days=7" : "/analytics/products/top?days=7";
    await attempt("read", tenant.key, path);
  }

  async function client(role: "k" | "b" | "r", n: number): Promise<void> {
    const random = rngOf(role.charCodeAt(0) * 1_000 + n);
    const name = `${prefix}${role}${n}`;
    for (let request = 0; running; request += 1) {
      const promise = promised[random.between(0, promised.length - 1)];
      if (!promise) throw new Error("traffic needs a tenant");
      if (role === "k") await sendKeyed(random, promise, `${name}-${request}`);
      else if (role === "b") await sendBlind(random, promise, `${name}-${request}`);
      else await read(random, promise);
      await Bun.sleep(random.between(0, pauseMs));
    }
  }

  const clients = [
    ...Array.from({ length: keyed }, (_, n) => client("k", n)),
    ...Array.from({ length: blind }, (_, n) => client("b", n)),
    ...Array.from({ length: readers }, (_, n) => client("r", n)),
  ];
  const finished = Promise.allSettled(clients);

  return {
    promised,
    attempts,
    acknowledgedEvents: () => acknowledged,
    duplicates: () => duplicates,
    async stop() {
      running = false;
      for (const result of await finished) if (result.status === "rejected") throw result.reason;
    },
  };
}

function rotated<T>(list: readonly T[], by: number): T[] {
  return list.map((_, n) => list[(n + by) % list.length] as T);
}

/**
 * Mostly from the last day and a half, some a month late. A purchase has a price and a quantity.
 */
function makeEvent(random: Random) {
  const type = TYPES[random.between(0, TYPES.length - 1)] ?? "view";
  const ageMs = random.chance(0.1) ? random.between(0, 40 * DAY_MS) : random.between(0, 1.5 * DAY_MS);
  const sold = type === "purchase" || type === "refund";
  return {
    type,
    timestamp: Date.now() - ageMs,
    productId: `p-${random.between(1, 40)}`,
    ...(random.chance(0.5)
      ? { userId: `u-${random.between(1, 60)}` }
      : { anonymousId: `a-${random.between(1, 60)}` }),
    properties: {
      device: random.chance(0.5) ? "mobile" : "desktop",
      ...(sold ? { price: random.between(1, 99_999) / 100, quantity: random.between(1, 5) } : {}),
    },
  };
}
